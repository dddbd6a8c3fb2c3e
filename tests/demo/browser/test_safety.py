"""Nothing outside of the page's own folder can be read through it, and calls of any kind leave it running."""

import json
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest

from tests.conftest import ROOT


def ask(server, path, body=None, **headers):
    """The status of a request, and what came back."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.address + path, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


OUTSIDE = ["/etc/passwd", str(ROOT / "README.md"), "README.md", "../../etc/passwd", "/proc/self/environ"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("place", ["gradio_api/file={}", "gradio_api//file={}", "file={}", "static/{}", "assets/{}"])
def test_no_file_of_this_machine_is_given(path, place, server):
    for written in (path, quote(path, safe=""), quote(quote(path, safe=""), safe="")):
        status, content = ask(server, f"/en/{place.format(written)}")
        assert status in (400, 403, 404), content
        assert b"root:" not in content and b"hf_encoders" not in content


@pytest.mark.parametrize("path", ["../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "x/y"])
def test_results_are_given_by_their_keys_alone(path, server):
    assert ask(server, f"/download/{path}")[0] == 404
    assert ask(server, f"/download/{quote(path, safe='')}/{quote(path, safe='')}")[0] == 404


NOT_NEEDED = [
    "proxy=http://127.0.0.1:1/", "file=http://127.0.0.1:1/", "info", "openapi.json", "api/predict", "call/predict",
    "component_server", "process_recording", "app_id",
]  # fmt: skip


@pytest.mark.parametrize("what", NOT_NEEDED)
def test_what_the_page_does_not_need_of_gradio_is_closed(what, server):
    assert ask(server, f"/en/gradio_api/{what}")[0] == 403
    assert ask(server, f"/en/gradio_api/{what}", {})[0] == 403


def functions(server):
    _, config = ask(server, "/en/config")
    return json.loads(config)["dependencies"]


@pytest.mark.parametrize("path", ["/etc/passwd", "http://127.0.0.1:1/x.png", "../../../../etc/passwd", 7])
def test_a_call_names_no_file_that_was_not_sent(path, server):
    for function in functions(server):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = {"data": [file] * max(1, len(function["inputs"])), "fn_index": function["id"], "session_hash": "x1"}
        assert ask(server, "/en/gradio_api/queue/join", body)[0] == 403


@pytest.mark.parametrize("data", [[], [None] * 9, ["x"] * 5, [{"a": 1}] * 5, [10**30] * 5])
def test_calls_of_any_kind_leave_the_page_running(data, server):
    for function in functions(server):
        body = {"data": data, "fn_index": function["id"], "session_hash": "x2", "event_data": {"row": -5}}
        ask(server, "/en/gradio_api/queue/join", body)
    assert ask(server, "/en/")[0] == 200


@pytest.mark.parametrize("body", [b"", b"[", b'"text"'])
def test_a_body_that_is_no_call_is_refused(body, server):
    request = urllib.request.Request(server.address + "/en/gradio_api/queue/join", body, method="POST")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert 400 <= error.value.code < 500


@pytest.mark.parametrize("path", ["image/200.jpg", "image/-1.jpg", "image/x.jpg", "text/0.jpg", "sound/0.jpg"])
def test_pictures_that_are_not_there(path, server):
    _, page = ask(server, "/en/config")
    folder = page.decode().partition("pictures-")[2][:8]
    assert ask(server, f"/pictures-{folder}/{path}")[0] in (404, 422)
