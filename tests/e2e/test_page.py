"""The built-in page, used in a real browser by the keyboard alone."""
import os
import uuid

import pytest

import browser
from waiting import wait_until

pytestmark = pytest.mark.needs_api


@pytest.fixture(scope="module")
def page(stack):
    if not stack.has_api:
        pytest.skip("there is no API here")
    program = browser.find()
    if not program:
        pytest.skip("there is no Chromium here")
    one = browser.Browser(program)
    try:
        one.open(stack.api_url + "/")
        wait_until(lambda: one.run("document.readyState") == "complete" and one.run("!!document.getElementById('workers')"),
                   "the page is there", 30)
        if stack.api_key:
            one.tab_to("key")
            one.type(stack.api_key)
            one.press("Enter")
        wait_until(lambda: "at work" in one.run("document.getElementById('workers').textContent"), "a worker is seen", 30)
        yield one
        if os.environ.get("E2E_SCREENSHOT"):
            one.screenshot(os.environ["E2E_SCREENSHOT"])
    finally:
        one.close()


def text(page, element_id):
    return page.run(f"document.getElementById('{element_id}').textContent")


def test_all_of_it_by_the_keyboard_alone(page):
    collection = f"page-{uuid.uuid4().hex[:8]}"
    # hand in
    page.tab_to("text")
    page.type("Sharks sense electric fields with their snout. <b>Whales sing.</b>")
    page.tab_to("title")
    page.type("Sea <i>animals</i>")
    page.tab_to("collection")
    page.run("document.getElementById('collection').select()")
    page.type(collection)
    page.press("Enter")
    wait_until(lambda: text(page, "document-status") == "handed in", lambda: text(page, "document-status"), 30)
    row = "document.querySelector('#documents tr')"
    wait_until(lambda: page.run(f"{row}.dataset.state") == "ready", lambda: page.run(f"{row}.textContent"), 60)
    assert page.run(f"{row}.children[0].textContent") == "Sea <i>animals</i>"
    # search
    page.tab_to("query")
    page.type("electric fish")
    page.tab_to("search-collection")
    page.type(collection)
    page.press("Enter")
    wait_until(lambda: text(page, "search-status") == "1 hit", lambda: text(page, "search-status"), 30)
    assert "<b>Whales sing.</b>" in text(page, "hits") and page.run("document.querySelectorAll('#hits b').length") == 1
    # ask
    page.tab_to("ask-collection")
    page.type(collection)
    page.press("Tab", shift=True)
    page.type("Which animals can feel electricity?")
    page.press("Enter")
    wait_until(lambda: "Sharks sense electric fields" in text(page, "answer") and text(page, "citations"),
               lambda: text(page, "answer"), 60)
    # a task, watched live
    page.tab_to("demo")
    page.press("Space")
    states = set()
    wait_until(lambda: page.run("document.querySelector('#tasks td').textContent") == "demo.progress", "the task is sent", 20)

    def ended():
        states.add(page.run("document.querySelector('#tasks tr').children[1].textContent"))
        return "SUCCESS" in states
    wait_until(ended, lambda: f"the task ends: {states}", 40)
    assert "PROGRESS" in states, states
    # delete
    page.run(f"{row}.querySelector('button').focus()")
    page.press("Enter")
    wait_until(lambda: text(page, "document-status") == "deleted", lambda: text(page, "document-status"), 30)
    assert page.troubles == []


def test_links_lead_to_the_api_and_flower(page, stack):
    links = page.run("[...document.querySelectorAll('nav a')].map((a) => a.href)")
    assert stack.api_url + "/docs" in links and any(link.startswith(stack.flower_url) for link in links), links
