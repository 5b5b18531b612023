from __future__ import annotations

import pytest

from lf_lightning.report import write_report
from lf_lightning.results.predictions import read_predictions
from tests.made_runs import write_run

ATTACK = '<script>window.hit = 1</script><img src="https://example.invalid/x" onerror="window.hit = 2">'
CLOSING = "</script><script>window.hit = 3</script>"


def count(page) -> str:
    return page.find_element("id", "count").text


def choose(page, select: str, text: str) -> None:
    for option in page.find_element("id", select).find_elements("tag name", "option"):
        if option.text == text:
            option.click()
            return
    raise AssertionError(text)


@pytest.fixture(scope="module")
def run(tmp_path_factory, browser):
    """A run whose texts and labels try to run, its page, and its rows."""
    folder = tmp_path_factory.mktemp("r") / "exp" / "1"
    texts = [f"row number {row} {ATTACK if row % 2 else CLOSING}" for row in range(90)]
    record = write_run(
        folder,
        rows=90,
        labels=("plain", ATTACK, CLOSING),
        texts=texts,
        strength=0.5,
        rationales={"llm": [f"because {row} {ATTACK}" for row in range(90)]},
    )
    return write_report([folder]), read_predictions(folder, record)


def test_nothing_is_asked_for_and_nothing_in_a_text_runs(run, browser):
    path, _ = run
    page = browser.open(path)
    choose(page, "preset", "all rows")
    assert [url for url in browser.requests() if url != path.as_uri()] == []
    assert browser.complaints() == []
    assert page.execute_script("return window.hit === undefined") is True
    text = page.find_element("css selector", "#list .text").text
    assert "<script>" in text
    assert ATTACK in page.find_element("css selector", "#matrix thead").get_attribute("textContent")
    assert ATTACK in page.find_element("css selector", "#list .reason").text
    assert page.execute_script("return document.querySelectorAll('img, #list script').length") == 0


def test_even_a_script_in_the_page_would_not_run(run, browser):
    page = browser.open(run[0])
    page.execute_script("const s = document.createElement('script'); s.textContent = 'window.hit = 9'; document.body.append(s)")
    assert page.execute_script("return window.hit === undefined") is True
    assert any("Content Security Policy" in said for said in browser.complaints())


def test_the_filters_show_the_rows_that_they_name(run, browser):
    path, rows = run
    page = browser.open(path)
    right = {name: rows.decisions[name] == rows.truth for name in ("system", "encoder", "llm")}
    wrong = int((~right["system"]).sum())
    assert count(page).startswith(f"{wrong} of the 90 rows")
    choose(page, "preset", "the LLM right, encoder wrong")
    expected = right["llm"] & ~right["encoder"]
    assert count(page).startswith(f"{int(expected.sum())} of the 90")
    shown = page.find_elements("css selector", "#list .row")
    numbers = {row.find_element("css selector", ".about").text.split("row ")[-1] for row in shown}
    assert numbers <= {str(row) for row in expected.nonzero()[0]}
    choose(page, "true", "plain")
    assert count(page).startswith(f"{int((expected & (rows.truth == 0)).sum())} of the 90")
    page.execute_script("arguments[0].click()", page.find_element("id", "clear"))  # the page may still move under a pointer
    assert count(page).startswith(f"{wrong} of the 90")


def test_search_marks_what_it_finds(run, browser):
    page = browser.open(run[0])
    choose(page, "preset", "all rows")
    page.find_element("id", "search").send_keys("NUMBER 42")
    assert count(page).startswith("1 of the 90")
    assert {mark.text for mark in page.find_elements("css selector", "#list mark")} == {"number", "42"}
    page.find_element("id", "search").send_keys(" ([")
    assert page.find_element("css selector", "#list .empty").text == "No such row."


def test_cells_of_the_matrix_choose_their_rows_by_mouse_and_by_keyboard(run, browser):
    path, rows = run
    page = browser.open(path)
    cell = page.find_element("css selector", '#matrix button[data-true="0"][data-made="0"]')
    both = int(((rows.truth == 0) & (rows.decisions["system"] == 0)).sum())
    assert cell.text == str(both)
    page.execute_script("arguments[0].click()", cell)
    assert count(page).startswith(f"{both} of the 90")
    assert cell.get_attribute("aria-pressed") == "true"
    label = page.find_element("css selector", 'button[data-label="1"]')
    label.send_keys("\n")
    expected = int(((rows.truth == 1) | (rows.decisions["system"] == 1)).sum())
    assert count(page).startswith(f"{expected} of the 90")
    assert cell.get_attribute("aria-pressed") == "false"


def test_who_was_right_when(run, browser):
    path, rows = run
    page = browser.open(path)
    cell = page.find_element("css selector", '.agreement button[data-encoder="0"][data-other="1"]')
    expected = int(((rows.decisions["llm"] == rows.truth) & (rows.decisions["encoder"] != rows.truth)).sum())
    assert cell.text.startswith(f"{expected} rows")
    page.execute_script("arguments[0].click()", cell)
    assert count(page).startswith(f"{expected} of the 90")


def test_more_rows_come_on_request(run, browser):
    page = browser.open(run[0])
    choose(page, "preset", "all rows")
    more = page.find_element("id", "more")
    for expected in (50, 75, 90):
        page.execute_script("arguments[0].click()", more)
        assert len(page.find_elements("css selector", "#list .row")) == expected
    assert not more.is_displayed()


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_is_as_wide_as_the_window(run, browser, width):
    page = browser.open(run[0])
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_where_the_system_is_dark(run, browser):
    page = browser.open(run[0])
    colours = []
    for value in ("light", "dark"):
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": value}]})
        colours.append(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(251, 251, 250)", "rgb(22, 24, 27)"]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_comparison_shows_the_rows_that_two_runs_decided_differently(tmp_path, browser):
    records = {}
    for seed in (0, 1):
        folder = tmp_path / "exp" / str(seed)
        records[seed] = read_predictions(folder, write_run(folder, seed=seed, rows=90, strength=0.6))
    path = write_report([tmp_path / "exp"], tmp_path / "c.html")
    page = browser.open(path)
    a, b = records[0], records[1]
    differ = a.decisions["system"] != b.decisions["system"]
    assert count(page).startswith(f"{int(differ.sum())} of the 90")
    first = page.find_element("css selector", ".ranking tbody th").text
    better, other = (a, b) if first == "0" else (b, a)
    choose(page, "winner", f"1 · {first}")
    choose(page, "loser", f"2 · {1 - int(first)}")
    expected = (better.decisions["system"] == better.truth) & (other.decisions["system"] != other.truth)
    assert count(page).startswith(f"{int(expected.sum())} of the 90")
    assert browser.complaints() == []
    assert [url for url in browser.requests() if url != path.as_uri()] == []


@pytest.mark.parametrize("case", ["many", "multilabel", "perfect", "alone", "names"])
def test_every_kind_of_run_has_a_page_that_works(tmp_path, browser, case):
    folder = tmp_path / "exp" / "1"
    strange = ("two\nlines", "שלום عربي", "😀🎉", "=1+2", "a" * 300, " ")
    options = {
        "many": {"labels": [f"label {k}" for k in range(100)], "rows": 400},
        "multilabel": {"labels": [f"l{k}" for k in range(28)], "rows": 200, "task": "multilabel"},
        "perfect": {"strength": 100.0},
        "alone": {"members": ("encoder",), "tests": {}, "best_member": {}},
        "names": {"labels": strange, "rows": 120},
    }[case]
    record = write_run(folder, **options)
    page = browser.open(write_report([folder]))
    assert browser.complaints() == []
    assert len(page.find_elements("css selector", ".labels tbody tr")) == len(record.labels)
    shown = page.find_element("tag name", "main").text
    if case == "many":
        assert "too many for a matrix" in shown
        page.execute_script("arguments[0].click()", page.find_element("css selector", ".pairs button"))
        assert page.find_elements("css selector", "#list .row")
    elif case == "multilabel":
        assert "threshold" in shown
        assert not page.find_elements("id", "matrix")
    elif case == "perfect":
        assert "No mistake on 80 test rows" in shown
        choose(page, "preset", "mistakes of the system")
        assert "No mistake at all." in page.find_element("id", "list").text
    elif case == "alone":
        assert "encoder alone" not in shown
        assert "Who was right when" not in shown
    else:
        heads = page.find_elements("css selector", "#matrix tbody th")
        assert heads[1].text == strange[1]
        assert page.execute_script("return document.documentElement.scrollWidth") <= 1200
