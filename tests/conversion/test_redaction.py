"""What tells of the machine and the people of a training is taken out of the metadata."""

import pytest

from hf_encoders.conversion.redaction import HIDDEN, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/anna/data/x.png", "…/x.png"),
        ("/home/anna/my data/x y.png", "…/x y.png"),
        ("/home/anna", HIDDEN),
        ("/home/anna/", HIDDEN),
        ("/Users/anna", HIDDEN),
        ("/", "/"),
        ("/data", "…/data"),
        ("~anna/runs", "…/runs"),
        (r"C:\Users\anna\runs\best.pth", "…/best.pth"),
        ("C:/Users/anna", HIDDEN),
        ("D:\\", HIDDEN),
        (r"\\server\share\x.pth", "…/x.pth"),
        ("file:///home/anna/x.pth", "…/x.pth"),
        ("python train.py --data=/home/anna/data --out /mnt/runs/7", "python train.py --data=…/data --out …/7"),
        ("PATH=/home/anna/bin:/usr/bin", "PATH=…/bin:…/bin"),
        ("see file:///home/anna/x.pth.", "see …/x.pth."),
        ("/usr/bin/python train.py --data /home/anna/maps", "…/python train.py --data …/maps"),
        ("/home/anna/a.png, /home/anna/b.png", "…/a.png, …/b.png"),
        ("/home/anna/bin:/usr/bin", "…/bin:…/bin"),
        ("copy of anna@gpu01:/data/x.pth", "copy of …:…/x.pth"),
        ("tcp://gpu01.lab.example:23456", "tcp://…"),
        ("10.1.2.3:8080", HIDDEN),
        ('{"root": "/home/anna/data"}', '{"root": "…/data"}'),
        (r"in C:\Users\anna\x and /tmp/y", "in …/x and …/y"),
        ("File \"/home/anna/lab/train.py\", line 3", 'File "…/train.py", line 3'),
    ],
)  # fmt: skip
def test_absolute_paths_keep_their_last_part(text, shown):
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("train/loss", "bert-base-uncased", "org/model", "resnet50", "1/2", "and/or", "a / b", "0.07", "~", "…/x.png"),
        *(
            "https://huggingface.co/org/model",
            "2024-05-06T07:08:09",
            "version 1.2.3.4.5",
            "127.0.0.1",
            "relative/x.png",
        ),
        *("s3://bucket/x", "text: of no path", "lr=1e-3", "encoder.layer1.0.conv1.weight"),
    ],
)
def test_other_texts_stay(text):
    assert redacted(text) == text


def test_names_of_users_and_hosts_are_taken_out_wherever_they_stand():
    content = {
        "data": "/home/anna.k/maps",
        "run": "anna.k-baseline-3",
        "by": "written by anna.k on gpu-node-17",
        "HOSTNAME": "gpu-node-17",
        "anna.k": [1, {"note": "anna.kx is another word"}],
        "env": {"USER": "anna.k", "RANK": 3, "MASTER_ADDR": "gpu-node-17"},
        "git": "Anna <anna.k@lab.example>",
    }
    assert redacted(content) == {
        "data": "…/maps",
        "run": "…-baseline-3",
        "by": "written by … on …",
        "HOSTNAME": "…",
        "…": [1, {"note": "anna.kx is another word"}],
        "env": {"USER": "…", "RANK": 3, "MASTER_ADDR": "…"},
        "git": "Anna <…>",
    }


def test_a_host_is_called_by_its_first_name_too():
    assert redacted({"hostname": "gpu17.lab.example", "note": "on gpu17"}) == {"hostname": "…", "note": "on …"}


def test_names_that_are_everyone_s_are_no_names():
    content = {"data": "/home/user/maps", "loss": "user loss", "out": "/root/x", "note": "root mean square"}
    assert redacted(content) == {"data": "…/maps", "loss": "user loss", "out": "…/x", "note": "root mean square"}


def test_secrets_are_hidden_and_numbers_of_nobody_stay():
    content = {"wandb_api_key": "abc", "password": "x", "node": 3, "host": None, "hosts": ["a1", "b2"], "tokens": 128}
    hidden = {"wandb_api_key": "…", "password": "…", "node": 3, "host": None, "hosts": ["…", "…"], "tokens": 128}
    assert redacted(content) == hidden


def test_keys_that_become_the_same_stay_apart():
    assert redacted({"/home/anna/x.png": 1, "/home/bert/x.png": 2}) == {"…/x.png": 1, "…/x.png'": 2}
