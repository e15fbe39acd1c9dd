"""The official SDKs against the simulator, unmodified: judges that no one here wrote."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDKs' own, at import
    import openai
    import zai
    import zhipuai

pytestmark = [pytest.mark.once, pytest.mark.filterwarnings("ignore")]

OUTCOMES = ["stored", "listed", "read", "deleted"]


@pytest.fixture
def moonshot(sim):
    with openai.OpenAI(base_url=sim.moonshot.base_url, api_key=sim.moonshot.api_key) as client:
        yield client


@pytest.fixture
def zhipu(sim):
    """Makes clients of the SDK named, and closes them (they do not by themselves)."""
    classes = {"zai": zai.ZaiClient, "zhipu_cn": zhipuai.ZhipuAI}
    made = []

    def make(name: str, **options: Any) -> Any:
        platform = getattr(sim, name)
        made.append(classes[name](base_url=platform.base_url, api_key=platform.api_key, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_openai_creates_lists_retrieves_reads_and_deletes(sim, moonshot):
    created = moonshot.files.create(file=('报告 "q".txt', b"hello", "text/plain"), purpose="file-extract")
    assert (created.filename, created.bytes, created.object, created.status) == ('报告 "q".txt', 5, "file", "ready")
    assert [file.id for file in moonshot.files.list()] == [created.id]
    assert moonshot.files.retrieve(created.id).purpose == "file-extract"
    content = moonshot.files.content(created.id)
    assert content.json() == {
        "content": "hello",
        "file_type": "text/plain",
        "filename": '报告 "q".txt',
        "title": "",
        "type": "file",
    }
    assert moonshot.files.delete(created.id).deleted
    assert [entry["outcome"] for entry in sim.truth()] == ["stored", "listed", "read", "read", "deleted"]
    with pytest.raises(openai.NotFoundError):
        moonshot.files.retrieve(created.id)


def test_openai_walks_pages(sim, moonshot):
    sim.moonshot.set(page_size=4)
    ids = [moonshot.files.create(file=(f"{n}.txt", b"x"), purpose="image").id for n in range(10)]
    assert [file.id for file in moonshot.files.list()] == ids


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        pytest.param("invalid_request_error", openai.BadRequestError, id="400"),
        pytest.param("invalid_authentication_error", openai.AuthenticationError, id="401"),
        pytest.param("permission_denied_error", openai.PermissionDeniedError, id="403"),
        pytest.param("resource_not_found_error", openai.NotFoundError, id="404"),
        pytest.param("rate_limit_reached_error", openai.RateLimitError, id="429"),
        pytest.param("server_unavailable", openai.InternalServerError, id="503"),
    ],
)
def test_openai_raises_its_own_errors(sim, moonshot, kind, cls):
    sim.moonshot.fault({"kind": "error", "type": kind})
    with pytest.raises(cls) as raised:
        moonshot.with_options(max_retries=0).files.list()
    assert raised.value.body["type"] == kind


def test_openai_retries_and_says_so(sim, moonshot):
    sim.moonshot.fail_next(status=503, times=2, retry_after=0.01, operation="list")
    assert moonshot.files.list().data == []
    retries = [entry["request_headers"]["x-stainless-retry-count"] for entry in sim.truth()]
    assert retries == ["0", "1", "2"]


def test_openai_stores_twice_what_we_store_once(sim, moonshot):
    """The reason for this project, in five lines."""
    sim.moonshot.fault("lost_reply", when={"next": 1}, operation="upload")
    moonshot.files.create(file=("a.txt", b"hello"), purpose="file-extract")
    assert len(sim.moonshot.files) == 2
    sim.reset()
    sim.moonshot.fault("lost_reply", when={"next": 1}, operation="upload")
    with sim.client() as ours:
        ours.upload(b"hello", name="a.txt", to="moonshot")
    assert len(sim.moonshot.files) == 1


ZHIPU_SDKS = [
    pytest.param("zai", "agent", id="zai-sdk"),
    pytest.param("zhipu_cn", "batch", id="zhipuai"),
]


@pytest.mark.parametrize(("name", "purpose"), ZHIPU_SDKS)
def test_zhipu_sdks_create_list_read_and_delete(sim, zhipu, name, purpose):
    client, platform = zhipu(name), getattr(sim, name)
    created = client.files.create(file=("批.jsonl", b'{"n": 1}\n'), purpose=purpose)
    assert (created.filename, created.bytes, created.purpose) == ("批.jsonl", 9, purpose)
    assert [file.id for file in client.files.list(purpose=purpose).data] == [created.id]
    if purpose == "batch":
        assert client.files.content(created.id).content == b'{"n": 1}\n'
    assert client.files.delete(created.id).deleted
    assert platform.files == []
    assert {entry["outcome"] for entry in sim.truth(platform=name)} <= set(OUTCOMES)


@pytest.mark.parametrize(("name", "purpose"), ZHIPU_SDKS)
@pytest.mark.parametrize(
    ("code", "cls"),
    [
        pytest.param("1214", "APIRequestFailedError", id="400"),
        pytest.param("1000", "APIAuthenticationError", id="401"),
        pytest.param("1302", "APIReachLimitError", id="429"),
        pytest.param("1234", "APIInternalError", id="500"),
    ],
)
def test_zhipu_sdks_raise_their_own_errors(sim, zhipu, name, purpose, code, cls):
    getattr(sim, name).fault({"kind": "error", "code": code})
    with pytest.raises(Exception, match=code) as raised:
        zhipu(name, max_retries=0).files.list(purpose=purpose)
    assert type(raised.value).__name__ == cls


@pytest.mark.parametrize(("name", "purpose"), ZHIPU_SDKS)
def test_zhipu_sdks_retry(sim, zhipu, name, purpose):
    platform = getattr(sim, name)
    platform.fail_next(status=503, times=1, operation="list")
    assert zhipu(name).files.list(purpose=purpose).data == []
    assert [entry["status"] for entry in platform.requests] == [503, 200]


@pytest.mark.parametrize(("name", "purpose"), ZHIPU_SDKS)
def test_zhipu_sdks_are_taken_at_their_jwt(sim, zhipu, name, purpose):
    for platform in (sim.zai, sim.zhipu_cn):
        platform.set(keys=[platform.api_key])
    client = zhipu(name, disable_token_cache=False)
    assert client.files.list(purpose=purpose).data == []
    (entry,) = sim.truth(platform=name)
    assert entry["authenticated"]
