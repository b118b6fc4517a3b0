// Takes pictures of the guide's site in Chromium, as wide as a laptop and a phone, light and dark, and finds what
// does not fit.
//
//   node tools/screenshots.mjs DIRECTORY [PAGE…]    pages such as documents/Metrics.html; default: all of the guide

import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { asProgram, capture, Unavailable } from './command.mjs'
import { debianDirectory } from './debian.mjs'

const WIDTHS = [1280, 390]
const THEMES = ['light', 'dark']
const HEIGHT = 900

/** Debian's Chromium without a window, controlled over a pipe. */
class Browser {
  #child
  #waiting = new Map()
  #loaded = () => {}
  #last = 0
  #session

  static async start(profile) {
    const unpacked = await debianDirectory({
      name: 'chromium',
      packages: ['chromium', 'fonts-dejavu-core'],
    })
    const libraries = ['usr/lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu/pulseaudio']
      .concat('lib/x86_64-linux-gnu')
      .map((path) => join(unpacked, path))
    const browser = new Browser()
    browser.#child = spawn(
      join(unpacked, 'usr/lib/chromium/chromium'),
      [
        ...['--headless', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe'],
        ...[`--user-data-dir=${profile}`, '--allow-file-access-from-files', '--hide-scrollbars'],
      ],
      {
        stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
        env: { ...process.env, LD_LIBRARY_PATH: libraries.join(':') },
      },
    )
    browser.#listen()
    const { targetId } = await browser.#ask('Target.createTarget', { url: 'about:blank' })
    const attached = { targetId, flatten: true }
    browser.#session = (await browser.#ask('Target.attachToTarget', attached)).sessionId
    await browser.#ask('Page.enable')
    return browser
  }

  /** Returns a picture of a whole page, and the elements that reach beyond the window. */
  async look(path, width, theme) {
    const size = { width, height: HEIGHT, deviceScaleFactor: 1, mobile: false }
    await this.#ask('Emulation.setDeviceMetricsOverride', size)
    const features = [{ name: 'prefers-color-scheme', value: theme }]
    await this.#ask('Emulation.setEmulatedMedia', { features })
    const loaded = new Promise((done) => {
      this.#loaded = done
    })
    await this.#ask('Page.navigate', { url: pathToFileURL(path).href })
    await loaded
    const { result } = await this.#ask('Runtime.evaluate', {
      expression: `(${wideElements})()`,
      returnByValue: true,
    })
    const shot = { format: 'png', captureBeyondViewport: true }
    const { data } = await this.#ask('Page.captureScreenshot', shot)
    return { picture: Buffer.from(data, 'base64'), wide: result.value }
  }

  async end() {
    this.#child.kill('SIGKILL')
    await new Promise((ended) => this.#child.once('close', ended))
  }

  #ask(method, params = {}) {
    const id = ++this.#last
    const session = this.#session === undefined ? {} : { sessionId: this.#session }
    this.#child.stdio[3].write(`${JSON.stringify({ id, method, params, ...session })}\0`)
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
  }

  #listen() {
    let text = ''
    this.#child.stdio[4].setEncoding('utf8').on('data', (chunk) => {
      const [...messages] = (text + chunk).split('\0')
      text = messages.pop()
      for (const message of messages) this.#take(JSON.parse(message))
    })
    this.#child.once('close', () => {
      const error = new Error('Chromium ended')
      for (const { reject } of this.#waiting.values()) reject(error)
    })
  }

  #take({ id, method, result, error }) {
    if (method === 'Page.loadEventFired') this.#loaded()
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (error === undefined) waiting?.resolve(result)
    else waiting?.reject(new Error(error.message))
  }
}

/** Runs in the page: names the visible elements that no ancestor scrolls and that the window cuts off. */
function wideElements() {
  const scrolls = (element) => {
    for (let at = element; at !== null && at !== document.body; at = at.parentElement) {
      if (/auto|scroll|hidden/.test(getComputedStyle(at).overflowX)) return true
    }
    return false
  }
  return [...document.querySelectorAll('.col-content *, header *')]
    .filter((element) => {
      const { right, width } = element.getBoundingClientRect()
      return width > 0 && right > window.innerWidth + 1 && !scrolls(element)
    })
    .slice(0, 5)
    .map((element) => `${element.tagName} ${(element.textContent ?? '').trim().slice(0, 60)}`)
}

await asProgram(import.meta.url, async ([directory, ...names]) => {
  if (directory === undefined) throw new Unavailable('name a directory for the pictures')
  const work = mkdtempSync(join(tmpdir(), 'vmclock-screenshots-'))
  const browser = await Browser.start(join(work, 'profile'))
  try {
    const site = join(work, 'site')
    await capture('typedoc', ['--out', site])
    const documents = readdirSync(join(site, 'documents')).map((name) => `documents/${name}`)
    const pages = names.length > 0 ? names : ['index.html', ...documents]
    mkdirSync(directory, { recursive: true })
    const complaints = []
    for (const page of pages) {
      for (const width of WIDTHS) {
        for (const theme of THEMES) {
          const name = `${basename(page, '.html')}-${width}-${theme}`
          const { picture, wide } = await browser.look(join(site, page), width, theme)
          writeFileSync(join(directory, `${name}.png`), picture)
          complaints.push(...wide.map((element) => `${name}: wider than the window: ${element}`))
        }
      }
      console.log(`  ${page}`)
    }
    console.log(`pictures in ${resolve(directory)}`)
    if (complaints.length > 0) throw new Unavailable(complaints.join('\n'))
  } finally {
    await browser.end()
    rmSync(work, { recursive: true, force: true })
  }
})
