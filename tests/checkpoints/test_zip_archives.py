"""Zip archives: what may differ between programs is refused, damage is found, and re-packed ones are read."""

import io
import struct
import warnings
import zipfile

import pytest
import torch

from hf_encoders.checkpoints.files import CheckpointError, open_checkpoint
from tests.helpers.checkpoint_samples import repacked, saved

CONTENT = {"w": torch.arange(1000, dtype=torch.float32), "b": torch.ones(3)}
DATA = saved(CONTENT)
ENTRY, END = b"PK\x01\x02", b"PK\x05\x06"


def message(folder, data):
    """What is said of a file, when it is opened or its tensors are read."""
    path = folder / "a.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        for handle in open_checkpoint(path).content.values():
            handle.read()
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and text.isprintable()
    return text.removeprefix(f"{path}: ")


def entry_of(name):
    """Where the directory has a record."""
    place = DATA.index(ENTRY)
    while not DATA[place + 46 :].startswith(name):
        place = DATA.index(ENTRY, place + 1)
    return place


def changed(place, data, whole=DATA):
    return whole[:place] + data + whole[place + len(data) :]


def value_at(place, kind):
    return struct.unpack_from(kind, DATA, place)[0]


def test_changed_bytes_of_a_tensor_are_found_when_it_is_read(tmp_path):
    place = DATA.index(CONTENT["w"].numpy().tobytes())
    data = changed(place + 100, b"\xff" * 64)
    assert message(tmp_path, data).startswith("damaged: the CRC-32 of archive/data/0 is wrong")
    assert open_checkpoint(tmp_path / "a.pth").content["b"].read().tolist() == [1, 1, 1]  # the others are whole
    name = entry_of(b"archive/data/0")
    unchecked = changed(name + 16, bytes(4), data)  # 0: it was not computed
    (tmp_path / "a.pth").write_bytes(unchecked)
    assert open_checkpoint(tmp_path / "a.pth").content["w"].read().shape == (1000,)


def test_changed_bytes_of_the_structure_are_found(tmp_path):
    place = DATA.index(b"cpu")
    assert "the CRC-32 of archive/data.pkl is wrong" in message(tmp_path, changed(place, b"gpu"))


def test_files_without_checksums_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        data = saved(CONTENT)
    finally:
        torch.serialization.set_crc32_options(True)
    assert struct.unpack_from("<L", data, data.index(ENTRY) + 16) == (0,)
    (tmp_path / "a.pth").write_bytes(data)
    assert torch.equal(open_checkpoint(tmp_path / "a.pth").content["w"].read(), CONTENT["w"])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_that_other_programs_packed_are_read(method, tmp_path):
    data = repacked(DATA, method)
    (tmp_path / "a.pth").write_bytes(data)
    found = open_checkpoint(tmp_path / "a.pth").content
    assert all(torch.equal(found[name].read(), CONTENT[name]) for name in CONTENT)
    assert found["w"].read().storage_offset() == 0


def test_damage_of_a_compressed_record_is_found(tmp_path):
    data = repacked(DATA)
    place = zipfile.ZipFile(io.BytesIO(data)).getinfo("archive/data/0").header_offset
    assert "damaged" in message(tmp_path, changed(place + 100, b"\x55\xaa" * 8, data))


def test_the_same_record_twice_is_refused(tmp_path):
    for name in ("archive/data.pkl", "archive/data/0", "archive/DATA.pkl"):
        (tmp_path / "a.pth").write_bytes(repacked(DATA, zipfile.ZIP_STORED))
        with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.pth", "a") as archive:
            warnings.simplefilter("ignore")
            archive.writestr(name, b"\x80\x02}.")
        text = message(tmp_path, (tmp_path / "a.pth").read_bytes())
        assert text.startswith(f"holds {name!r} twice") and "refused" in text


def test_two_directories_are_refused(tmp_path):
    """Two archives in one file: programs that read from the front and from the end see different ones."""
    other = saved({"w": torch.zeros(1)})
    assert "damaged or truncated (" in message(tmp_path, other + DATA)
    packed = repacked(other)
    assert "something stands before the archive" in message(tmp_path, packed + repacked(DATA))
    assert "damaged or truncated" in message(tmp_path, DATA + b"more")
    assert "damaged" in message(tmp_path, DATA[: DATA.rindex(END)] + END + bytes(18))


def test_records_that_overlap_are_refused(tmp_path):
    first, second = entry_of(b"archive/data/0"), entry_of(b"archive/data/1")
    assert "overlap" in message(tmp_path, changed(second + 42, struct.pack("<L", value_at(first + 42, "<L") + 40)))


@pytest.mark.parametrize(
    ("offset", "data", "said"),
    [
        (10, struct.pack("<H", 8), "differ"),  # the method
        (10, struct.pack("<H", 12), "differ"),
        (8, struct.pack("<H", 0x809), "encrypted"),
        (20, struct.pack("<L", 3999), "two sizes differ"),
        (24, struct.pack("<L", 4001), "expected 4,000 bytes"),
        (42, struct.pack("<L", 2), "damaged or truncated"),  # the place
        (42, struct.pack("<L", 1 << 31), "damaged or truncated"),
        (46, b"archive/data/7", "is missing"),  # the name
        (0, b"PK\x01\x03", "damaged or truncated"),
    ],
)
def test_a_directory_that_is_wrong_is_refused(offset, data, said, tmp_path):
    assert said in message(tmp_path, changed(entry_of(b"archive/data/0") + offset, data))


def test_a_local_header_that_differs_is_refused(tmp_path):
    header = value_at(entry_of(b"archive/data/0") + 42, "<L")
    for offset, data in ((0, b"PK\x03\x05"), (8, b"\x08\0"), (18, b"\1\0\0\0"), (28, b"\xff\xff"), (30, b"b")):
        assert "damaged or truncated (archive/data/0: " in message(tmp_path, changed(header + offset, data))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_archives_are_told(part, tmp_path):
    assert message(tmp_path, DATA[: int(part * len(DATA))]).startswith("damaged or truncated (")


def test_ways_of_packing_that_pytorch_does_not_have_are_named(tmp_path):
    data = repacked(DATA, zipfile.ZIP_BZIP2)
    assert "(method 12); unpack the archive, and pack it again with zip -0 -r" in message(tmp_path, data)


def test_large_archives_have_sizes_of_64_bits(tmp_path):
    """The fields of an archive over 4 GB, in a small one: they lie in the extra field of each entry."""
    place = entry_of(b"archive/data/0")
    name_size, extra_size = value_at(place + 28, "<H"), value_at(place + 30, "<H")
    assert extra_size == 0
    wide = struct.pack("<2HQQQ", 1, 24, 4000, 4000, value_at(place + 42, "<L"))
    entry = bytearray(DATA[place : place + 46 + name_size])
    struct.pack_into("<2L", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, len(wide))
    struct.pack_into("<L", entry, 42, 0xFFFFFFFF)
    data = bytearray(DATA[:place] + bytes(entry) + wide + DATA[place + len(entry) :])
    end64, locator, end = data.index(b"PK\x06\x06"), data.index(b"PK\x06\x07"), data.rindex(END)
    size = struct.unpack_from("<L", data, end + 12)[0] + len(wide)
    struct.pack_into("<Q", data, end64 + 40, size)
    struct.pack_into("<Q", data, locator + 8, end64)
    struct.pack_into("<L", data, end + 12, 0xFFFFFFFF)
    (tmp_path / "a.pth").write_bytes(data)
    assert torch.equal(open_checkpoint(tmp_path / "a.pth").content["w"].read(), CONTENT["w"])


def test_big_endian_files_are_turned_round(tmp_path):
    content = {
        "f": torch.tensor([1.5, 2]),
        "c": torch.tensor([1 + 2j]),
        "h": torch.ones(3).half(),
        "b": torch.ones(2).byte(),
    }
    widths = {f"archive/data/{number}": width for number, width in enumerate([4, 4, 2, 1])}

    def swap(name, record):
        if name.endswith("byteorder"):
            return b"big"
        width = widths.get(name, 1)
        return b"".join(record[start : start + width][::-1] for start in range(0, len(record), width))

    (tmp_path / "a.pth").write_bytes(repacked(saved(content), zipfile.ZIP_STORED, swap))
    found = open_checkpoint(tmp_path / "a.pth").content
    assert all(torch.equal(found[name].read(), content[name]) for name in content)


def test_what_is_written_to_a_tensor_does_not_reach_the_file(tmp_path):
    (tmp_path / "a.pth").write_bytes(DATA)
    handle = open_checkpoint(tmp_path / "a.pth").content["w"]
    handle.read().zero_()
    assert (tmp_path / "a.pth").read_bytes() == DATA and handle.read()[3] == 3


def test_a_file_that_shrinks_after_it_was_opened_is_an_error(tmp_path):
    (tmp_path / "a.pth").write_bytes(DATA)
    handle = open_checkpoint(tmp_path / "a.pth").content["w"]
    with (tmp_path / "a.pth").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(CheckpointError, match="damaged"):
        handle.read()


def test_records_of_pytorch_1_4_are_found_in_their_folder(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(DATA)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename.replace("/data/", "/tensors/"), old.read(entry))
    (tmp_path / "a.pth").write_bytes(buffer.getvalue())
    assert torch.equal(open_checkpoint(tmp_path / "a.pth").content["w"].read(), CONTENT["w"])
