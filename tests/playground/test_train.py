"""Train: the admin's view, against a service that really trains."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.cuttable import CuttableProxy
from tests.playground.conftest import OpenPlayground, Playground
from tests.retraining import LONG, TOKEN, admin_of, has_ended, retrainable_service, wait_for
from tests.service import Service
from training.evaluation import BEST_NLL


@pytest.fixture(scope="module")
def trainable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with retrainable_service(tmp_path_factory.mktemp("playground")) as running:
        yield running


@pytest.fixture
def admin(trainable: Service) -> Iterator[httpx.Client]:
    """Leaves no job running."""
    with admin_of(trainable) as client:
        yield client
        for job in client.get("/train").json()["jobs"]:
            if not has_ended(job):
                client.delete(f"/train/{job['id']}")
                wait_for(client, job["id"], has_ended)


def unlocked(open_playground: OpenPlayground, url: str) -> Playground:
    playground = open_playground(url, "#train")
    playground.unlock(TOKEN)
    expect(playground.page.get_by_role("heading", name="New job")).to_be_visible()
    return playground


def start(page: Page, **fields: object) -> None:
    for name, value in fields.items():
        field = page.get_by_label(name.replace("_", " "), exact=True)
        if name == "promote":
            field.select_option(str(value))
        else:
            field.fill(str(value))
    page.get_by_role("button", name="Start training").click()


WATCH_JOB = """() => {
  window.seen = [];
  const [title, epoch] = ["#job-title", ".figures dd"].map(it => document.querySelector(it));
  new MutationObserver(() => {
    const share = document.querySelector("progress").value.toFixed(2);
    window.seen.push(`${title.textContent} / ${epoch.textContent} / ${share}`);
  }).observe(document.querySelector("#job-box"), {subtree: true, childList: true});
}"""


def figure(page: Page, name: str) -> Locator:
    return page.locator(".figures div", has=page.locator("dt", has_text=name)).locator("dd")


def test_a_whole_training_run_is_seen_live_and_its_version_answers(
    trainable: Service, admin: httpx.Client, open_playground: OpenPlayground
) -> None:
    before = str(trainable.transform("MeM")["model_version"])
    playground = unlocked(open_playground, trainable.url)
    page = playground.page
    page.evaluate(WATCH_JOB)
    start(page, num_samples=400, num_epochs=6, batch_size=64, seed=3, promote="always")
    expect(page.locator("#job-title")).to_have_text("Job 1: succeeded", timeout=60_000)
    seen = page.evaluate("seen")
    assert any(re.match(r"Job 1: training / [1-6] of 6 / 0\.[1-9]", text) for text in seen), seen
    assert len({text.split(" / ")[1] for text in seen}) >= 3, seen  # epoch after epoch

    job = admin.get("/train/1").json()
    assert job["promoted"] is True
    assert job["config"]["seed"] == 3
    version = job["version"]
    expect(page.locator("#job-box [role=status]").first).to_contain_text(
        f"Version {version} is active"
    )
    page.get_by_text("The curve as a table").click()
    rows = page.get_by_role("region", name="The curve as a table").locator("tbody tr")
    expect(rows).to_have_count(6)
    _, training_loss, validation_loss, _ = rows.last.locator("td").all_inner_texts()
    assert training_loss == f"{job['loss']:.4f}"
    assert validation_loss == f"{job['validation']['excess_nll'] + BEST_NLL:.4f}"
    assert page.locator(".curve canvas").evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data.some(byte => byte)"
    )
    expect(page.locator(".key.floor")).to_have_text("the floor, ln 5 = 1.609")

    row = page.locator("#versions-box tr", has_text=version)
    expect(row).to_contain_text("active")
    page.get_by_role("link", name="Play").click()
    expect(page.locator("#card")).to_contain_text(f"Version {version}")
    expect(page.locator("#card")).to_contain_text("not proven on every query")
    answer = trainable.transform("MeM")
    assert answer["model_version"] == version != before
    expect(playground.message).to_contain_text(f"MeM → {answer['response']}")

    page.get_by_role("link", name="Train").click()
    for name in (version, before):
        page.get_by_label(f"Compare version {name}").check()
    comparison = page.get_by_role("region", name="Comparison")
    expect(comparison.get_by_role("columnheader")).to_have_text([version, before])
    differing = comparison.locator("tr", has=page.locator("b")).locator("th").all_inner_texts()
    assert {"num samples", "seed", "Proven", "Job"} <= set(differing)
    page.get_by_role("button", name=f"Activate version {before}").click()
    expect(page.locator("#versions-box > section > [role=status]")).to_have_text(
        f"Version {before} answers now."
    )
    assert trainable.transform("MeM")["model_version"] == before
    delete = page.get_by_role("button", name=f"version {version}").last
    delete.click()
    expect(delete).to_have_text("Really delete?")
    delete.click()
    expect(page.locator("#versions-box tbody tr", has_text=version)).to_have_count(0)
    assert admin.get(f"/models/{version}").status_code == 404


def test_a_version_is_proven_where_the_service_says_so(
    trainable: Service, open_playground: OpenPlayground
) -> None:
    """It alone knows what a proof is: this one has no violation, but saw a single query."""

    def answer_with_a_partial_proof(route: Route) -> None:
        (shipped,) = [model for model in route.fetch().json()["models"] if model["shipped"]]
        assert shipped["proven"]
        shipped["proven"] = False
        shipped["card"]["proof"]["queries"] = 1
        route.fulfill(json={"models": [shipped]})

    playground = unlocked(open_playground, trainable.url)
    page = playground.page
    comparison = page.get_by_role("region", name="Comparison")
    proven = comparison.get_by_role("row", name="Proven")
    page.get_by_label("Compare version").last.check()
    expect(proven).to_have_text("Provenon every query")
    page.route("**/models", answer_with_a_partial_proof)
    page.reload()
    page.get_by_label("Compare version").check()
    expect(proven).to_have_text("Provenno")


def test_a_wrong_token_is_refused_in_words_and_not_kept(
    trainable: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(trainable.url, "#train")
    playground.watch.expected.append("status of 401")
    page = playground.page
    playground.unlock("a-wrong-token")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Unauthorized (401): this is not the admin token")
    expect(page.get_by_label("Admin token")).to_be_focused()
    stored = "[...Object.values(sessionStorage), ...Object.values(localStorage), document.cookie]"
    assert page.evaluate(stored) == [""]
    playground.unlock(TOKEN)
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    assert page.evaluate(stored) == [TOKEN, ""]  # in session storage only
    page.reload()
    expect(page.get_by_role("heading", name="New job")).to_be_visible()  # entered once
    page.get_by_role("button", name="Forget the token").click()
    expect(page.get_by_label("Admin token")).to_be_visible()
    assert page.evaluate(stored) == [""]
    sent = [request for request in playground.watch.requests if TOKEN in request.url]
    assert sent == []


def test_the_form_has_the_recipes_values_and_the_bounds_of_the_openapi_document(
    trainable: Service, admin: httpx.Client, open_playground: OpenPlayground
) -> None:
    playground = unlocked(open_playground, trainable.url)
    playground.watch.expected.append("status of 422")
    page = playground.page
    document = trainable.client.get("/openapi.json").json()
    schema = document["components"]["schemas"]["JobRequest"]
    for recipe in ("book", "default"):
        page.get_by_label("recipe", exact=True).select_option(recipe)
        for name, value in schema["x-recipes"][recipe].items():
            if name in schema["properties"] and not isinstance(value, bool):
                field = page.get_by_label(name.replace("_", " "), exact=True)
                assert float(field.input_value()) == value
    epochs = page.get_by_label("num epochs", exact=True)
    start(page, num_epochs=1001)
    expect(page.locator("#job-num_epochs-hint")).to_have_text(
        "num epochs is a whole number, 1 to 1,000."
    )
    expect(epochs).to_be_focused()
    expect(epochs).to_have_attribute("aria-invalid", "true")
    start(page, num_epochs=1000, num_samples=100_000)  # each in bounds, but not together
    expect(page.locator("#form-title ~ [role=alert], .card [role=alert]")).to_contain_text(
        "num_samples x num_epochs is 100,000,000, more than 2,000,000"
    )
    page.get_by_role("button", name="Back to the recipe").click()
    assert epochs.input_value() == str(schema["x-recipes"][recipe]["num_epochs"])
    assert admin.get("/train").json()["jobs"][:1] in ([], [admin.get("/train/1").json()])


def test_a_job_can_be_cancelled_a_second_one_is_refused_and_a_reload_finds_it_again(
    trainable: Service, admin: httpx.Client, open_playground: OpenPlayground
) -> None:
    playground = unlocked(open_playground, trainable.url)
    playground.watch.expected.append("status of 409")
    page = playground.page
    start(page, **LONG, promote="never")
    expect(figure(page, "Epoch")).to_contain_text("of 1000")
    expect(figure(page, "Time left")).to_contain_text("s")
    start(page)
    expect(page.get_by_role("alert")).to_contain_text("is running, and there is one at a time")
    page.reload()
    expect(page.locator("#job-title")).to_contain_text("training")
    expect(figure(page, "Epoch")).to_contain_text("of 1000")
    page.route(
        "**/train?limit=5", lambda route: route.continue_(url=f"{trainable.url}/train?limit=1")
    )
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-title")).to_contain_text("cancelled")
    expect(page.locator("#job-box [role=status]").first).to_have_text(
        "It was cancelled. The version before it goes on answering."
    )
    rows = page.locator(".job-list tbody tr")
    expect(rows.first).to_contain_text("cancelled")
    expect(rows).to_have_count(1)
    total = len(admin.get("/train").json()["jobs"])
    for _ in range(total - 1):  # the page's own size is five
        page.get_by_role("button", name="Older jobs").click()
    expect(rows).to_have_count(total)
    expect(page.get_by_role("button", name="Older jobs")).to_be_hidden()


@pytest.mark.slow
def test_a_dropped_event_stream_resumes_where_it_was_cut(
    trainable: Service, admin: httpx.Client, open_playground: OpenPlayground
) -> None:
    with CuttableProxy(trainable.url).running() as proxy:
        playground = unlocked(open_playground, proxy.url)
        playground.watch.expected += ["ERR_", "net::"]
        page = playground.page
        start(page, **LONG, promote="never")
        expect(figure(page, "Epoch")).to_have_text(re.compile(r"^([2-9]|\d\d+) of 1000"))
        proxy.is_closed = True
        proxy.cut()
        lost = page.get_by_text("The connection is lost; the job goes on without it")
        expect(lost).to_be_visible()
        job_id = admin.get("/train").json()["jobs"][0]["id"]
        seen = int((figure(page, "Epoch").text_content() or "").split()[0])
        wait_for(admin, job_id, lambda job: job["epoch"] > seen)
        proxy.is_closed = False
        expect(lost).to_have_count(0)
        expect(figure(page, "Epoch")).not_to_have_text(f"{seen} of 1000")
        streams = [r for r in playground.watch.requests if r.url.endswith("/events")]
        assert "last-event-id" not in streams[0].headers
        assert streams[-1].headers["last-event-id"] == str(seen)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#job-title")).to_contain_text("cancelled")
        page.get_by_text("The curve as a table").click()
        rows = page.get_by_role("region", name="The curve as a table").locator(
            "tbody th, td:first-child"
        )
        epochs = [int(text) for text in rows.all_inner_texts() if text]
        assert epochs == list(range(1, len(epochs) + 1))  # none is missing, none is there twice


def test_what_retraining_lacks_is_said_in_words(
    trainable: Service, open_playground: OpenPlayground
) -> None:
    def answer_that_there_is_no_state(route: Route) -> None:
        problem = {"title": "Service Unavailable", "status": 503, "detail": "the disk is full"}
        route.fulfill(status=503, json=problem)

    playground = open_playground(trainable.url, "#train")
    playground.watch.expected.append("status of 503")
    playground.page.route("**/models", answer_that_there_is_no_state)
    playground.unlock(TOKEN)
    said = "Service Unavailable (503): the disk is full"
    expect(playground.page.get_by_role("alert")).to_contain_text(said)
