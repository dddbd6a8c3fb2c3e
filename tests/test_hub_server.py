"""What the test Hub can do, where no other test goes: revisions, pull requests, private repos, tokens."""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

CONFIG = "config.json"


def upload(client, name, content, **options):
    """A file that is small enough for git."""
    upload = {"path_or_fileobj": content.encode(), "path_in_repo": CONFIG, "repo_id": name}
    return client.upload_file(**upload, **options)


def content_of(hub, name, revision):
    repo = hub.repo("model", name)
    return repo.read(repo.entries(repo.commit_of(revision))[CONFIG].oid).decode()


def test_revisions_stay_what_they_were(hub, hub_client):
    hub_client.create_repo("org/revisions")
    first = upload(hub_client, "org/revisions", "first").oid
    hub_client.create_tag("org/revisions", tag="v1")
    hub_client.create_branch("org/revisions", branch="next/one")
    upload(hub_client, "org/revisions", "second")
    upload(hub_client, "org/revisions", "third", revision="next/one")
    found = {
        revision: content_of(hub, "org/revisions", revision)
        for revision in ("v1", first, first[:7], "main", "next/one")
    }
    assert found == {"v1": "first", first: "first", first[:7]: "first", "main": "second", "next/one": "third"}
    refs = hub_client.list_repo_refs("org/revisions")
    assert [branch.name for branch in refs.branches] == ["main", "next/one"]
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", first)]
    assert hub_client.model_info("org/revisions", revision="v1").sha == first
    with pytest.raises(RevisionNotFoundError):
        hub_client.model_info("org/revisions", revision="v2")
    with pytest.raises(HfHubHTTPError, match="already exists"):
        hub_client.create_tag("org/revisions", tag="v1")


def test_a_pull_request_changes_nothing_until_it_is_merged(hub, hub_client):
    hub_client.create_repo("org/proposals")
    upload(hub_client, "org/proposals", "old")
    proposal = upload(hub_client, "org/proposals", "new", create_pr=True)
    assert proposal.pr_num == 1 and proposal.pr_url == f"{hub.endpoint}/org/proposals/discussions/1"
    assert [content_of(hub, "org/proposals", revision) for revision in ("main", "refs/pr/1")] == ["old", "new"]
    hub_client.merge_pull_request("org/proposals", 1)
    assert content_of(hub, "org/proposals", "main") == "new"


def test_a_commit_on_an_older_one_is_refused(hub_client):
    hub_client.create_repo("org/raced")
    parent = hub_client.model_info("org/raced").sha
    upload(hub_client, "org/raced", "mine", parent_commit=parent)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        upload(hub_client, "org/raced", "yours", parent_commit=parent)


def test_files_are_described_by_their_paths(hub_client):
    hub_client.create_repo("org/described")
    commit = upload(hub_client, "org/described", "{}", commit_message="first")
    (described,) = hub_client.get_paths_info("org/described", [CONFIG, "missing"], expand=True)
    assert (described.path, described.size, described.last_commit.title) == (CONFIG, 2, "first")
    assert described.last_commit.oid == commit.oid
    weights = {"path_or_fileobj": b"0" * 100, "path_in_repo": "deep/model.safetensors"}
    hub_client.upload_file(**weights, repo_id="org/described")
    siblings = hub_client.model_info("org/described", files_metadata=True).siblings
    assert {sibling.rfilename: sibling.size for sibling in siblings} | {".gitattributes": 0} == {
        ".gitattributes": 0, CONFIG: 2, "deep/model.safetensors": 100
    }  # fmt: skip
    assert [entry.path for entry in hub_client.list_repo_tree("org/described", "deep")] == ["deep/model.safetensors"]


def test_deleted_files_are_gone(hub_client):
    hub_client.create_repo("org/cleared")
    upload(hub_client, "org/cleared", "{}")
    hub_client.delete_file(CONFIG, "org/cleared")
    assert hub_client.list_repo_files("org/cleared") == [".gitattributes"]


def test_a_private_repo_is_there_for_its_owner_alone(hub, hub_client):
    hub_client.create_repo("tester/secret", private=True)
    assert hub_client.model_info("tester/secret").private
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.endpoint, token=False).model_info("tester/secret")


def test_without_the_token_one_may_read_and_not_write(hub, hub_client):
    hub_client.create_repo("org/public")
    stranger = HfApi(endpoint=hub.endpoint, token=False)
    assert stranger.model_info("org/public").id == "org/public"
    with pytest.raises(HfHubHTTPError, match="401"):
        upload(stranger, "org/public", "mine")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(endpoint=hub.endpoint, token="hf_other").model_info("org/public")


def test_who_one_is(hub_client):
    assert hub_client.whoami()["name"] == "tester"
