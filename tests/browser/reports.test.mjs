// Reports in Debian's chromium: nothing breaks, leaves, scrolls sideways or shuts anybody out.
//
// Usage: node --test tests/browser/reports.test.mjs, with REPORTS naming the folder of *.html files;
// pictures are left beside them.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const folder = process.env.REPORTS;
const names = readdirSync(folder).filter((name) => name.endsWith(".html")).map((name) => name.slice(0, -5));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const read = (name) => readFileSync(join(folder, `${name}.html`), "utf8");
let browser, server;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"], // continuous integration runs as root
  });
  server = createServer((request, response) => {
    response.setHeader("Content-Security-Policy", "default-src 'none'");
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(read(request.url.slice(1)));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** Open a report from disk; what goes wrong in it is gathered in `problems`. */
async function open(name, options = {}) {
  const address = options.address ?? pathToFileURL(join(folder, `${name}.html`)).href;
  const context = await browser.newContext({
    viewport: { width: options.width ?? 1200, height: 900 },
    colorScheme: options.scheme ?? "light",
    javaScriptEnabled: options.scripts ?? true,
  });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("dialog", (dialog) => { problems.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => request.url() !== address && problems.push(`request: ${request.url()}`));
  await page.goto(address);
  return { page, problems, close: () => context.close() };
}

const openEverything = (page) =>
  page.evaluate(() => document.querySelectorAll("details").forEach((one) => { one.open = true; }));

/** Leave two rows of each make-up in every table: more of the same tell axe nothing, and take it minutes. */
const thinOut = (page) =>
  page.evaluate(() => {
    for (const body of document.querySelectorAll("tbody")) {
      const seen = {};
      for (const row of [...body.rows]) {
        const makeUp = [...row.querySelectorAll("*")].map((one) => one.className).join("|");
        seen[makeUp] = (seen[makeUp] ?? 0) + 1;
        if (seen[makeUp] > 2) row.remove();
      }
    }
  });

describe("every report", { concurrency: 2 }, () => names.forEach((name) => {
  test(`${name}: opens from disk without an error or a request`, async () => {
    const { page, problems, close } = await open(name);
    await openEverything(page);
    await page.waitForTimeout(100);
    assert.deepEqual(problems, []);
    assert.equal(await page.locator("h1").count(), 1);
    await close();
  });

  test(`${name}: is readable where the server forbids everything`, async () => {
    const { page, problems, close } = await open(name, { address: `http://127.0.0.1:${server.address().port}/${name}` });
    const others = problems.filter((one) => !/Content Security Policy|favicon/.test(one));
    assert.deepEqual(others, []);
    assert.ok((await page.locator("#claims").innerText()).length > 80);
    const { width, height } = await page.locator("svg").first().boundingBox();
    assert.ok(width > 300 && height > 50);
    await close();
  });

  // Colours follow from the style sheet, not from the study: the richest report has them all, and looking at
  // them takes most of the time.
  const rules = name === "rich" ? {} : { "color-contrast": { enabled: false } };
  for (const [scheme, width] of [["light", 1200], ["dark", 360]]) {
    test(`${name}, ${scheme}, ${width} px: axe finds nothing serious`, async () => {
      const { page, close } = await open(name, { scheme, width });
      await openEverything(page);
      await thinOut(page);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(
        (chosen) => window.axe.run(document, { resultTypes: ["violations"], rules: chosen }), rules);
      const serious = violations
        .filter((one) => ["serious", "critical"].includes(one.impact))
        .map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(" | ")}`);
      assert.deepEqual(serious, []);
      await close();
    });
  }

  test(`${name}: nothing scrolls sideways on a phone`, async () => {
    const { page, close } = await open(name, { width: 360 });
    await openEverything(page);
    const widths = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.equal(widths[0], widths[1]);
    await close();
  });

  test(`${name}: headings are in order and every figure and table is named`, async () => {
    const { page, close } = await open(name);
    const levels = await page.locator("h1, h2, h3").evaluateAll((all) => all.map((one) => +one.tagName[1]));
    levels.forEach((level, at) => assert.ok(at === 0 ? level === 1 : level <= levels[at - 1] + 1));
    const unnamed = await page.evaluate(() => [
      ...[...document.querySelectorAll("svg")].filter((one) => !one.querySelector("title")?.textContent || !one.querySelector("desc")?.textContent),
      ...[...document.querySelectorAll("table")].filter((one) => !one.caption?.textContent),
    ].length);
    assert.equal(unnamed, 0);
    await close();
  });

  test(`${name}: prints, with the tables that are folded on the screen`, async () => {
    const { page, close } = await open(name);
    await page.emulateMedia({ media: "print" });
    const folded = page.locator("details:not([open]) table");
    const heights = await folded.evaluateAll((all) => all.map((one) => one.getBoundingClientRect().height));
    assert.ok(heights.length > 0 && heights.every((height) => height > 10));
    assert.equal(await page.locator("nav").isVisible(), false);
    await page.setViewportSize({ width: 696, height: 1000 }); // A4 less the margins
    const cut = await page.evaluate(() =>
      [...document.querySelectorAll("table, svg, pre, p")]
        .filter((one) => one.getBoundingClientRect().right > window.innerWidth + 1)
        .map((one) => (one.caption ?? one).textContent.slice(0, 80)));
    assert.deepEqual(cut, []);
    const pdf = await page.pdf({ format: "A4", path: join(folder, `${name}.pdf`) });
    assert.ok(pdf.length > 20_000);
    await close();
  });

  test(`${name}: pictures`, async () => {
    for (const [kind, options] of Object.entries({ light: {}, dark: { scheme: "dark" }, phone: { width: 360 } })) {
      const { page, close } = await open(name, options);
      await page.screenshot({ path: join(folder, `${name}-${kind}.png`), fullPage: true });
      await close();
    }
  });
}));

test("the first figure is seen whole on a phone, and once everywhere", async () => {
  for (const width of [360, 1200]) {
    const { page, close } = await open("rich", { width });
    const boxes = await page.locator("#claims svg").evaluateAll((all) =>
      all.map((one) => one.getBoundingClientRect()).filter((box) => box.width).map((box) => [box.left, box.right]));
    assert.equal(boxes.length, 1);
    assert.ok(boxes[0][0] >= 0 && boxes[0][1] <= width);
    await close();
  }
});

test("the table of contents is open on a desk, folded on a phone, and never without its links", async () => {
  const link = (page) => page.getByRole("link", { name: "Settings and versions" });
  const desk = await open("rich");
  assert.ok(await link(desk.page).isVisible());
  assert.equal(await desk.page.locator("#contents summary").isVisible(), false);
  const [at, shown] = await desk.page.evaluate(() => [
    [...document.querySelectorAll("#contents li a")].map((one) => one.hash.slice(1)),
    [...document.querySelectorAll("main > section")].map((one) => one.id),
  ]);
  assert.deepEqual(at, shown);
  await desk.page.setViewportSize({ width: 360, height: 800 });
  assert.equal(await link(desk.page).isVisible(), false);
  await desk.page.setViewportSize({ width: 1200, height: 800 });
  assert.ok(await link(desk.page).isVisible());
  await desk.close();
  const phone = await open("rich", { width: 360 });
  assert.equal(await link(phone.page).isVisible(), false);
  await phone.page.locator("#contents summary").click();
  await link(phone.page).click();
  assert.ok(phone.page.url().endsWith("#settings"));
  await phone.close();
  const plain = await open("rich", { width: 360, scripts: false });
  assert.ok(await link(plain.page).isVisible());
  await plain.close();
});

test("tables are sorted by a heading, and filtered", async () => {
  const { page, problems, close } = await open("rich");
  await openEverything(page);
  const table = page.locator("#membership table").first();
  const column = async () => (await table.locator("tbody tr td:nth-child(2)").allInnerTexts()).map(Number);
  const before = await column();
  await table.getByRole("button", { name: "Questions" }).click();
  assert.deepEqual(await column(), [...before].sort((one, two) => one - two));
  assert.equal(await table.locator("th[aria-sort=ascending]").innerText().then((text) => text.trim()), "Questions");
  await table.getByRole("button", { name: "Questions" }).press("Enter");
  assert.deepEqual(await column(), [...before].sort((one, two) => two - one));
  const long = page.locator("#runs .filter + .scroll table").first();
  const all = await long.locator("tbody tr").count();
  await page.locator("#runs .filter input").first().fill("all but never");
  const left = await long.locator("tbody tr:visible").count();
  assert.ok(left > 0 && left < all);
  assert.deepEqual(problems, []);
  await close();
});

test("gains are sorted as numbers, signs and minus signs included", async () => {
  const { page, close } = await open("rich");
  const table = page.locator("#accuracy table").first();
  const headings = await table.locator("thead th").allInnerTexts();
  const at = headings.findIndex((text) => text.startsWith("Gain")) + 1;
  await table.locator(`thead th:nth-child(${at}) button`).click();
  const gains = (await table.locator(`tbody tr > :nth-child(${at})`).allInnerTexts())
    .map((text) => parseFloat(text.replace("\u2212", "-"))).filter((gain) => !Number.isNaN(gain));
  assert.ok(gains.length > 5);
  assert.deepEqual(gains, [...gains].sort((one, two) => one - two));
  await close();
});

test("without scripts everything is there", async () => {
  const { page, close } = await open("rich", { scripts: false });
  assert.equal(await page.locator("thead button").count(), 0);
  await page.locator("#membership summary").first().click();
  assert.ok(await page.locator("#membership table").first().isVisible());
  await close();
});

test("hostile texts neither run nor break the layout", async () => {
  const { page, problems, close } = await open("hostile", { width: 360 });
  await openEverything(page);
  await page.waitForTimeout(100);
  assert.deepEqual(problems, []);
  assert.equal(await page.locator("script").count(), 1);
  assert.ok((await page.locator("main").innerText()).includes("<script>alert(1)</script> ]]>"));
  assert.equal(await page.evaluate(() => document.querySelector("main").closest("body") !== null), true);
  await close();
});

test("the keyboard reaches the claims first", async () => {
  const { page, close } = await open("rich");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the claims");
  await page.keyboard.press("Enter");
  assert.ok(page.url().endsWith("#claims"));
  await close();
});
