"""A run goes on from a converted repo only with the repo's own weights."""

import json

import pytest

from hf_encoders.training.legacy_state import check_weights, has_legacy_state


def test_a_repo_without_a_state_has_none(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert not has_legacy_state(str(tmp_path))
    (tmp_path / "training_state.json").write_text("{}")
    assert has_legacy_state(str(tmp_path))


@pytest.mark.parametrize("init_from", ["", "other"])
def test_other_weights_than_the_repo_s_are_refused(init_from, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="repo: its training state is of its own weights; give --init_from repo too"):
        check_weights("repo", init_from)
    check_weights("repo", str(tmp_path / "repo"))
