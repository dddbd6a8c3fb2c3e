"""What people send is kept in one folder, and removed."""

import os

import pytest

from hf_encoders.demo.uploads import Uploads


@pytest.fixture
def uploads(tmp_path):
    return Uploads(tmp_path)


def send(uploads, name="map.png", content=b"content"):
    folder = uploads.sent / "0123abcd"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return str(folder / name)


def files(uploads):
    return [path for path in uploads.root.rglob("*") if path.is_file()]


def test_a_file_is_there_while_it_is_read(uploads):
    sent = send(uploads)
    with uploads.reading(sent) as path:
        assert (path.name, path.read_bytes()) == ("map.png", b"content")
        assert not path.is_relative_to(uploads.sent)
    assert [str(file) for file in files(uploads)] == [sent]  # Gradio's to remove


def test_two_people_send_the_same_file(uploads):
    first = uploads.take(send(uploads))
    second = uploads.take(send(uploads))
    uploads.drop(first)
    assert second.read_bytes() == b"content" and not first.exists()


def test_a_file_system_without_links_copies(uploads, monkeypatch):
    def refuse(*_):
        raise OSError("no links")

    monkeypatch.setattr(os, "link", refuse)
    assert uploads.take(send(uploads)).read_bytes() == b"content"


def test_a_file_that_cannot_be_read_is_removed_too(uploads):
    with pytest.raises(ValueError, match="bad"), uploads.reading(send(uploads)):
        raise ValueError("bad")
    assert not list((uploads.root / "work").iterdir())


@pytest.mark.parametrize("make", ["outside", "gone", "link", "folder", "nothing"])
def test_what_was_not_sent_is_not_taken(make, uploads, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.txt"
    outside.write_text("secret")
    (uploads.sent / "link").symlink_to(outside)
    asked = {
        "outside": str(outside),
        "gone": str(uploads.sent / "gone.png"),
        "link": str(uploads.sent / "link"),
        "folder": str(uploads.sent),
        "nothing": "",
    }[make]
    with pytest.raises(FileNotFoundError, match="send it again"):
        uploads.take(asked)
    assert outside.read_text() == "secret"


def test_results_are_fetched_by_their_key(uploads):
    made = uploads.new_folder() / "repo.zip"
    made.write_bytes(b"12345")
    offer = uploads.offer(made)
    assert (offer.name, offer.size) == ("repo.zip", 5)
    assert uploads.offered(offer.key, "repo.zip").read_bytes() == b"12345"
    for key, name in [("other", "repo.zip"), (offer.key, "other"), (".", "."), ("..", "sent"), (offer.key, "../../x")]:
        assert uploads.offered(key, name) is None


def test_what_is_old_is_removed(uploads):
    taken = uploads.take(send(uploads))
    made = uploads.new_folder() / "repo.zip"
    made.write_bytes(b"1")
    offer = uploads.offer(made)
    uploads.sweep()
    assert taken.is_file() and uploads.offered(offer.key, offer.name)
    (uploads.sent / "empty").touch()
    for path in (taken.parent, uploads.offered(offer.key, offer.name).parent, uploads.sent / "empty"):
        os.utime(path, (0, 0))
    uploads.sweep()
    assert [path.name for path in files(uploads)] == ["map.png"]  # which was sent just now


def test_messages_name_files_without_their_places(uploads):
    taken = uploads.take(send(uploads, "my map.png"))
    said = f"{taken}: not a picture; {taken} is damaged ({uploads.sent / 'ab' / 'x.png'})"
    assert uploads.without_places(said) == "my map.png: not a picture; my map.png is damaged (x.png)"
    assert uploads.without_places("nothing of it") == "nothing of it"
