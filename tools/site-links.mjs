// Checks that each link of the built site leads to an existing page, file or anchor.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { asProgram, rootDirectory } from './command.mjs'

/** Throws an error that lists the broken links. Prints how many it followed. */
export function checkSite(directory) {
  const files = readdirSync(directory, { recursive: true }).map((file) => join(directory, file))
  const there = new Set(files)
  const pages = new Map(
    files
      .filter((file) => file.endsWith('.html') && !relative(directory, file).startsWith('assets'))
      .map((file) => [file, readFileSync(file, 'utf8')]),
  )
  const anchors = new Map(
    [...pages].map(([file, text]) => [
      file,
      new Set([...text.matchAll(/ id="([^"]+)"/g)].map(([, id]) => unescaped(id))),
    ]),
  )
  const lost = []
  let followed = 0
  for (const [file, text] of pages) {
    for (const [, link] of text.matchAll(/ (?:href|src)="([^"]*)"/g)) {
      if (/^(?:[a-z]+:|$)/.test(link)) continue
      followed += 1
      const [path, anchor] = unescaped(link).split('#').map(decodeURIComponent)
      const target = path === '' ? file : join(dirname(file), path)
      const ids = anchors.get(target)
      if (!there.has(target) || (anchor && ids !== undefined && !ids.has(anchor))) {
        lost.push(`${relative(directory, file)}: ${link}`)
      }
    }
  }
  if (lost.length > 0) throw new Error(`broken links:\n${lost.join('\n')}`)
  if (followed === 0) throw new Error(`${directory}: contains no links`)
  console.log(`${followed} links of ${pages.size} pages are good`)
}

function unescaped(text) {
  return text.replaceAll('&amp;', '&').replaceAll('&quot;', '"').replaceAll('&#39;', "'")
}

await asProgram(import.meta.url, ([directory = join(rootDirectory, 'docs/api')]) =>
  checkSite(directory),
)
