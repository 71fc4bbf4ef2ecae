"""The web client in Chromium, on the real lab."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from system.kernel.text import weight
from tests.browser.conftest import DESK, PHONE, is_wider_than_its_window, png, sign_up

pytestmark = [pytest.mark.real, pytest.mark.slow]

ATTACK = "<img src=x onerror=\"window.owned=1\"><script>window.owned=1</script>"


def test_a_picture_travels_from_its_author_to_a_follower_who_likes_it(windows, web_url):
    """Sign up, follow, post with a picture, see it arrive, like it, see the count.

    Through every box of the data flow.
    """
    ada, grace = sign_up(windows.open(web_url), "Ada"), sign_up(windows.open(web_url), "Grace")
    grace.go(f"u/{ada.username}")
    grace.page.get_by_role("button", name="Follow", exact=True).click()
    expect(grace.page.get_by_role("button", name="Following", exact=True)).to_be_visible()
    grace.go("")
    expect(grace.page.get_by_role("heading", name="Home")).to_be_visible()

    ada.write("The engine weaves algebraic patterns", png())
    ada.write("and a second note, without a picture")

    grace.page.wait_for_timeout(1000)  # fan-out takes about 10 ms, on a busy machine about 100
    grace.page.reload()
    shown = grace.tweet("weaves algebraic")
    expect(shown).to_contain_text(f"Ada @{ada.username}")
    picture = shown.get_by_role("img", name="Picture posted by Ada")
    expect(picture).to_be_visible()
    grace.page.wait_for_function("image => image.complete && image.naturalWidth === 12", arg=picture.element_handle())
    shown.get_by_role("button", name="Like; 0 likes").click()
    expect(shown.get_by_role("button", name="Like; 1 like")).to_have_attribute("aria-pressed", "true")
    ada.go(f"u/{ada.username}")
    counted = ada.tweet("weaves algebraic").get_by_role("button", name="Like; 1 like")
    for _ in range(8):  # a worker refreshes the count that others see
        ada.page.wait_for_timeout(700)
        if counted.count():
            break
        ada.page.reload()
    expect(counted).to_have_attribute("aria-pressed", "false")
    grace.page.reload()
    expect(grace.tweet("weaves algebraic").get_by_role("button", name="Like; 1 like")).to_have_attribute("aria-pressed", "true")
    assert windows.complaints == []


def show_tab(page):
    """Let the client poll for new tweets, as it does when its tab is shown again, until it has found some."""
    for _ in range(20):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_timeout(300)
        if page.locator("button.news").is_visible():
            return


def test_new_tweets_are_announced_and_shown_on_request(windows, web_url):
    """The timeline does not move while it is being read."""
    ada, grace = sign_up(windows.open(web_url), "Ada"), sign_up(windows.open(web_url), "Grace")
    grace.write("the first of my own")
    grace.go(f"u/{ada.username}")
    grace.page.get_by_role("button", name="Follow", exact=True).click()
    expect(grace.page.get_by_role("button", name="Following", exact=True)).to_be_visible()
    grace.go("")
    expect(grace.tweet("the first of my own")).to_be_visible()

    ada.write("news for those who wait")

    news = grace.page.get_by_role("button", name="Show 1 new tweet")
    expect(news).to_be_visible()
    assert grace.tweet("news for those who wait").count() == 0
    news.click()
    expect(grace.page.locator("article").first).to_contain_text("news for those who wait")

    ada.write("posted right before hers")
    grace.write("an own one in between")
    expect(grace.page.locator("article").first).to_contain_text("an own one in between")
    show_tab(grace.page)
    expect(news).to_be_visible()  # older than the newest one shown, but new to this list
    news.click()
    expect(grace.page.locator("article").nth(0)).to_contain_text("an own one in between")
    expect(grace.page.locator("article").nth(1)).to_contain_text("posted right before hers")
    expect(grace.page.locator("article").nth(2)).to_contain_text("news for those who wait")


def test_more_new_tweets_than_a_page_holds_leave_no_gap(windows, web_url):
    """As after some time in a hidden tab; here a page of new tweets holds three."""
    page = windows.open(web_url)
    ada = sign_up(page, "Ada")
    ada.write("the oldest")
    page.route("**/timelines/*max_results=100*", lambda route: route.continue_(
        url=route.request.url.replace("max_results=100", "max_results=3")))
    page.evaluate("""async () => {
        const { token } = JSON.parse(sessionStorage.getItem("tweetlab.lab.session"));
        for (let n = 0; n < 7; n++) {
            await fetch("/2/tweets", { method: "POST", body: JSON.stringify({ text: `note ${n}` }),
                headers: { authorization: `Bearer ${token}`, "content-type": "application/json" } });
        }
    }""")

    show_tab(page)
    page.get_by_role("button", name="and more new tweets").click()

    expect(page.locator("article")).to_have_count(8)


def test_text_of_users_is_shown_as_text_and_never_executed(windows, web_url):
    """A name, a tweet and a search that look like HTML are shown as text.

    The page's policy would block them, too.
    """
    page = windows.open(web_url)
    mallory = sign_up(page, "<b>Mallory</b>")

    mallory.write(f"look {ATTACK} javascript:alert(1)")
    mallory.go("search/%3Cimg%20src%3Dx%20onerror%3Dwindow.owned%3D1%3E")
    expect(page.get_by_role("heading", name="Search")).to_be_visible()
    mallory.go(f"u/{mallory.username}")

    expect(mallory.tweet("look")).to_contain_text(ATTACK)
    expect(page.get_by_role("heading", name="<b>Mallory</b>")).to_be_visible()
    assert page.evaluate("window.owned") is None
    assert page.locator("article img, article script, h1 b").count() == 0
    assert page.evaluate("try { document.body.innerHTML = '<p>x</p>'; 'let through' } catch { 'refused' }") == "refused"


TEXTS = ["walrus", "海象 かな", "😀👍🏽👩‍🚀🇫🇷 1️⃣ ©️ ©", "e\u0301", "see zoo.org and http://動物.com/園 a@zoo.org",
         "https://zoo.org/a_(b)?c=d#e, x",
         f"https://t.co/{'a' * 41} https://t.co/a", f"http://{'あ' * 40}.com http://{'あ' * 70}.com",
         "twitter.みんな.com1 -a.com",
         "\u2066zoo.org\u2069", "http://" * 9 + "a.b.co",
         "\u200d".join("😀" * 9)]


def test_the_composer_counts_as_the_service_does(windows, web_url):
    """With the service's own tables: a text that the client lets through is not refused, and the other way round."""
    page = windows.open(web_url)
    counted = page.evaluate("""async (texts) => {
        const text = await import("/web/text.js");
        await text.load();
        return texts.map(text.weight);
    }""", TEXTS)
    ada = sign_up(page, "Ada")

    assert counted == [weight.weight(text) for text in TEXTS]
    box, send = page.get_by_label("What is happening?"), page.get_by_role("button", name="Post", exact=True)
    for text, fits in (("海" * 140, True), ("海" * 141, False), ("👩‍🚀" * 140, True),
                       (f"{'x' * 256} https://zoo.org/{'a' * 99}", True), ("a\ufeffb", False)):
        box.fill(text)
        (expect(send).to_be_enabled if fits else expect(send).to_be_disabled)()
    ada.write("hi @bob see zoo.org/a #漢字 $ZOO 🦭")
    links = ada.tweet("hi @bob").locator("p.text a")
    expect(links).to_have_count(4)
    assert [link.get_attribute("href") for link in links.all()] == [
        "#/u/bob", "http://zoo.org/a", "#/search/%23%E6%BC%A2%E5%AD%97", "#/search/%24ZOO"]


def test_a_search_finds_what_was_just_posted(windows, web_url):
    """Posted, indexed, found, within seconds."""
    ada = sign_up(windows.open(web_url), "Ada")
    ada.write(f"A rare #word{ada.username} about looms")

    ada.page.wait_for_timeout(1500)
    for _ in range(10):
        ada.go("")
        ada.go(f"search/%23word{ada.username}")
        expect(ada.page.get_by_role("heading", name="Search")).to_be_visible()
        ada.page.wait_for_timeout(800)
        if ada.tweet("A rare").count():
            break

    expect(ada.tweet("A rare")).to_contain_text("about looms")
    ada.tweet("A rare").get_by_role("link", name=f"#word{ada.username}").click()
    expect(ada.page.get_by_role("searchbox", name="Search tweets")).to_have_value(f"#word{ada.username}")


def test_a_reply_links_its_parent_and_a_deleted_tweet_disappears(windows, web_url):
    """Reply on the page of the tweet; delete asks for confirmation, then the tweet is removed for good."""
    ada = sign_up(windows.open(web_url), "Ada")
    ada.write("a question")
    ada.tweet("a question").get_by_role("link", name="Reply").click()
    expect(ada.page.get_by_role("heading", name="Tweet", exact=True)).to_be_visible()
    ada.page.get_by_role("textbox", name="Your reply").fill("an answer")
    ada.page.get_by_role("textbox", name="Your reply").press("Control+Enter")
    expect(ada.tweet("an answer")).to_contain_text("In reply to")

    ada.go("")
    doomed = ada.tweet("a question")
    doomed.get_by_role("button", name="Delete this tweet").click()
    expect(doomed).to_be_visible()
    doomed.get_by_role("button", name="Delete this tweet").click()

    expect(ada.page.locator("article", has_text="a question")).to_have_count(0)
    ada.page.reload()
    expect(ada.tweet("an answer")).to_be_visible()
    expect(ada.page.locator("article", has_text="a question")).to_have_count(0)


def test_older_tweets_are_loaded_page_by_page_without_repeats(windows, web_url):
    """The cursor of the API, behind a button."""
    ada = sign_up(windows.open(web_url), "Ada")
    ada.page.evaluate("""async () => {
        const { token } = JSON.parse(sessionStorage.getItem("tweetlab.lab.session"));
        for (let n = 0; n < 23; n++) {
            await fetch("/2/tweets", { method: "POST", body: JSON.stringify({ text: `note ${n} of many` }),
                headers: { authorization: `Bearer ${token}`, "content-type": "application/json" } });
        }
    }""")
    ada.go(f"u/{ada.username}")
    expect(ada.page.locator("article")).to_have_count(20)

    ada.page.get_by_role("button", name="Show older tweets").click()

    expect(ada.page.locator("article")).to_have_count(23)
    ids = ada.page.locator("article").evaluate_all("all => all.map(card => card.dataset.id)")
    assert len(set(ids)) == 23
    expect(ada.page.get_by_role("button", name="Show older tweets")).to_be_hidden()


def test_a_short_overload_loses_neither_the_session_nor_the_page(windows, web_url):
    """503 during the renewal of the token, and for the first page of the timeline: both are retried."""
    page = windows.open(web_url)
    ada = sign_up(page, "Ada")
    ada.write("still here")
    page.evaluate("""() => {
        const session = JSON.parse(sessionStorage.getItem("tweetlab.lab.session"));
        sessionStorage.setItem("tweetlab.lab.session", JSON.stringify({ ...session, token: "expired" }));
    }""")
    busy = json.dumps({"title": "Service Unavailable", "detail": "The lab is busy."})
    refused = []

    def refuse(route):
        refused.append(route.request.url)
        route.fulfill(status=503, content_type="application/problem+json", body=busy)

    page.route("**/2/oauth2/token", refuse)
    page.reload()
    expect(page.get_by_text("The lab is busy.").first).to_be_visible()
    page.unroute("**/2/oauth2/token")
    page.get_by_role("button", name="Try again").click()

    expect(ada.tweet("still here")).to_be_visible()
    assert refused and page.get_by_role("button", name="Try again").count() == 0


def test_a_picture_that_is_shown_late_is_signed_again(windows, web_url):
    """Its first signed URL has expired by then."""
    page = windows.open(web_url)
    ada = sign_up(page, "Ada")
    ada.write("a picture", png(12))
    shown, late = ada.tweet("a picture").get_by_role("img", name="Picture posted by Ada"), []
    expect(shown).to_have_attribute("src", re.compile("^http"))

    def expired_once(route):
        late.append(route.request.url)
        if len(late) == 1:
            route.fulfill(status=410)
        else:
            route.continue_()

    address = shown.get_attribute("src").partition("?")[0]
    page.route(f"{address}*", expired_once)
    page.reload()
    expect(shown).to_be_visible()
    page.wait_for_function("image => image.complete && image.naturalWidth === 12", arg=shown.element_handle())
    assert len(late) == 2


def test_a_protected_user_approves_readers(windows, web_url):
    """Protect, receive a request, approve: only then are the tweets visible."""
    ada, grace = sign_up(windows.open(web_url), "Ada"), sign_up(windows.open(web_url), "Grace")
    ada.write("for my friends alone")
    ada.go(f"u/{ada.username}")
    ada.page.get_by_role("button", name="Protect my tweets").click()
    expect(ada.page.get_by_role("button", name="Tweets are protected")).to_be_visible()

    grace.go(f"u/{ada.username}")
    grace.page.get_by_role("button", name="Follow", exact=True).click()
    expect(grace.page.get_by_role("button", name="Requested")).to_be_visible()
    assert grace.tweet("for my friends alone").count() == 0
    grace.page.reload()
    requested = grace.page.get_by_role("button", name="Requested")
    expect(requested).to_have_attribute("aria-pressed", "true")  # the request survives a reload of the page
    requested.click()
    expect(grace.page.get_by_role("button", name="Follow", exact=True)).to_be_visible()
    grace.page.reload()
    grace.page.get_by_role("button", name="Follow", exact=True).click()
    expect(requested).to_be_visible()
    ada.go("requests")
    ada.page.get_by_role("button", name=f"Approve @{grace.username}").click()
    expect(ada.page.get_by_text(f"@{grace.username} follows you now.")).to_be_visible()

    for _ in range(8):  # visibility is cached for a moment
        grace.page.reload()
        expect(grace.page.get_by_role("button", name="Following", exact=True)).to_be_visible()
        grace.page.wait_for_timeout(700)
        if grace.tweet("for my friends alone").count():
            break
    expect(grace.tweet("for my friends alone")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_needs_horizontal_scrolling_on_a_phone(windows, web_url, scheme):
    """390 px wide, long words included, in both color schemes."""
    page = windows.open(web_url, PHONE, scheme)
    assert not is_wider_than_its_window(page)
    ada = sign_up(page, "Ada Augusta King, Countess of Lovelace, née Byron")
    ada.write("W" * 200, png(40))

    views = {"": "Home", "search/WWW": "Search", f"u/{ada.username}": "Ada Augusta", "requests": "Follow requests"}
    for view, title in views.items():
        ada.go(view)
        expect(page.locator("h1", has_text=title)).to_be_visible()
        assert not is_wider_than_its_window(page), view
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')").strip() == (
        "#fbfaf7" if scheme == "light" else "#12151b")


def test_the_client_is_usable_with_the_keyboard_only(windows, web_url):
    """The first Tab reaches the skip link; the navigation follows in order; every control has a name."""
    ada = sign_up(windows.open(web_url, DESK), "Ada")
    page = ada.page
    ada.write("something to stand on")
    page.reload()
    expect(ada.tweet("something to stand on")).to_be_visible()

    names = []
    for _ in range(7):
        page.keyboard.press("Tab")
        names.append(page.evaluate("""(() => {
            const at = document.activeElement;
            return at.getAttribute("aria-label") || at.textContent.trim();
        })()"""))

    assert names[:6] == ["Skip to the content", "Tweetlab", "Home", "Search", "Profile", "Sign out"]
    nameless = page.evaluate("""[...document.querySelectorAll("button, a, input, textarea")].filter((node) => !node.hidden
        && node.tabIndex >= 0 && !(node.textContent.trim() || node.getAttribute("aria-label") || node.labels?.length))
        .map((node) => node.outerHTML)""")
    assert nameless == []


def test_signing_out_removes_the_tokens(windows, web_url):
    """Nothing of the session remains in the tab, and the sign-in form is shown."""
    ada = sign_up(windows.open(web_url), "Ada")

    ada.page.get_by_role("button", name="Sign out").click()

    expect(ada.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert ada.page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]


def test_a_wrong_password_shows_an_error_and_nothing_else_happens(windows, web_url):
    """The error is shown beside the form, in the API's own words."""
    page = windows.open(web_url)
    page.get_by_label("User name").fill("nobody_at_all")
    page.get_by_label("Password").fill("not-the-password")
    page.get_by_role("button", name="Sign in", exact=True).click()

    expect(page.get_by_role("alert")).not_to_be_empty()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
