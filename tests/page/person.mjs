// A person in front of the page: looks for things by what they are called, and waits for what is shown.

import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import chromium, { inflate } from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

/** Time that anything may take. */
const PATIENCE = 10_000;

export class Fault extends Error {}

export function check(holds, sentence) {
  if (!holds) throw new Fault(sentence);
}

/** Starts the browser. The package has the libraries too that a small machine lacks. */
export async function browser() {
  const path = process.env.CHROMIUM ?? (await chromium.executablePath());
  const environment = { ...process.env };
  if (execFileSync("ldd", [path], { encoding: "utf8" }).includes("not found")) {
    const packed = new URL("../bin/al2023.tar.br", import.meta.resolve("@sparticuz/chromium"));
    await inflate(packed.pathname);
    environment.LD_LIBRARY_PATH = join(tmpdir(), "al2023/lib");
  }
  return puppeteer.launch({ executablePath: path, env: environment, headless: "shell", args: ["--no-sandbox", "--disable-gpu"] });
}

export class Person {
  /** Opens the page. Everything that the browser complains of is kept. */
  static async at(browser, address) {
    const page = await browser.newPage();
    const person = new Person(page);
    page.on("console", (message) => person.complaints.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => person.complaints.push(`error: ${error.message}`));
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(new URL(address).origin) && !url.startsWith("data:")) person.complaints.push(`asked for ${url}`);
    });
    await page.evaluateOnNewDocument(() => {
      addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
    });
    await page.setViewport({ width: 1280, height: 900 });
    await page.goto(address);
    return person;
  }

  constructor(page) {
    this.page = page;
    this.complaints = [];
  }

  /** Asks the page until it gives something that is true. */
  async until(what, ask, ...given) {
    const end = Date.now() + PATIENCE;
    for (;;) {
      const found = await this.page.evaluate(ask, ...given);
      if (found) return found;
      if (Date.now() > end) {
        const seen = await this.page.evaluate(() => document.querySelector("main").innerText.slice(0, 2500));
        throw new Fault(`no ${what} within ${PATIENCE / 1000} s; status: ${await this.status()}; the page:\n${seen}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
  }

  status() {
    return this.page.$eval("#status", (element) => element.textContent);
  }

  shows(sentence) {
    return this.until(`status "${sentence}"`, (text) => document.getElementById("status").textContent.includes(text), sentence);
  }

  /** Presses the button of that name, which has to be visible, within `place`. */
  async press(name, place = "main") {
    await this.until(
      `button "${name}"`,
      (name, place) => {
        const buttons = [...document.querySelectorAll(`${place} button`)];
        const of = (button) => button.firstChild.textContent.trim();
        const found = buttons.find((button) => of(button) === name && button.checkVisibility() && button.ariaDisabled !== "true");
        found?.click();
        return found !== undefined;
      },
      name,
      place,
    );
  }

  /** Puts a value into the field whose label begins with that name. */
  async put(name, value, place = "main") {
    const handle = await this.page.evaluateHandle(
      (name, place) => {
        const labels = [...document.querySelectorAll(`${place} label`)];
        return labels.find((label) => label.firstChild.textContent.trim() === name && label.checkVisibility())?.control;
      },
      name,
      place,
    );
    const field = handle.asElement();
    check(field, `no field "${name}"`);
    const kind = await field.evaluate((element) => element.localName);
    if (kind === "select") {
      // By the words of the option, of which several may be chosen.
      const wanted = [value].flat();
      const values = await field.evaluate((element, wanted) => [...element.options].filter((option) => wanted.includes(option.text)).map((option) => option.value), wanted);
      check(values.length === wanted.length, `"${name}" has no ${value}`);
      await field.select(...values);
    } else {
      await field.evaluate((element) => element.select());
      await this.page.keyboard.press("Delete");
      await field.type(String(value));
    }
  }

  /** The latest call, once its state begins with `state`. */
  call(state) {
    return this.until(
      `call "${state}"`,
      (state) => {
        const card = document.querySelector("#calls > li");
        const now = card?.querySelector(".state").textContent ?? "";
        const result = card?.querySelector("pre")?.textContent;
        return now.startsWith(state) && { state: now, result };
      },
      state,
    );
  }

  /** What is shown of the answer to the latest call. */
  async answer() {
    return (await this.call("answered")).result;
  }

  /** The same as JSON. */
  async json() {
    return JSON.parse(await this.answer());
  }

  /** What the log shows, newest first. */
  frames() {
    return this.page.$$eval("#frames > li", (items) => items.map((item) => ({ direction: item.dataset.direction, about: item.querySelector("span:last-child").textContent, text: item.querySelector("pre")?.textContent ?? "" })));
  }

  async count(text) {
    const frames = await this.frames();
    return frames.filter((frame) => frame.direction === "got" && frame.text.includes(text)).length;
  }

  focused() {
    return this.page.evaluate(() => {
      const { activeElement: element } = document;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      return { id: element.id, text: element.firstChild?.textContent?.trim() ?? "", isSeen: outlineStyle !== "none" && outlineWidth !== "0px" };
    });
  }

  /** Goes on by the keyboard until the focus is on what is called so, which it has to show. */
  async tab(name) {
    for (let steps = 0; steps < 60; steps += 1) {
      await this.page.keyboard.press("Tab");
      const { id, text, isSeen } = await this.focused();
      if (id === name || text === name) {
        check(isSeen, `the focus on ${name} is not shown`);
        return;
      }
    }
    throw new Fault(`the keyboard does not reach ${name}`);
  }
}
