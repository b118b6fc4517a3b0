// Makes the tables and the chart of docs/performance.md from docs/performance.json, a result of
// `npm run bench -- --json docs/performance.json`.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootDirectory } from '../tools/command.mjs'
import { chart } from './chart.mjs'
import { LEGEND, machineLines, spreadLine, tables } from './table.mjs'

const RESULT = 'docs/performance.json'
const PAGE = 'docs/performance.md'
const CHART = 'docs/performance.svg'
const START = '<!-- made by npm run bench -- --write-docs -->\n'
const END = '<!-- end of what was made -->\n'

/** Writes the tables and the chart. */
export function writeDocs() {
  for (const [file, text] of made()) writeFileSync(join(rootDirectory, file), text)
}

/** Throws if the tables or the chart differ from the result. */
export function checkDocs() {
  const stale = made().filter(([file, text]) => read(file) !== text)
  if (stale.length > 0) {
    const files = stale.map(([file]) => file).join(', ')
    throw new Error(`${files}: differs from ${RESULT}; fix it with npm run bench -- --write-docs`)
  }
}

// Returns each file with its correct contents.
function made() {
  const result = JSON.parse(read(RESULT))
  if (result.quick) throw new Error(`${RESULT} is a result of --quick, whose figures mean nothing`)
  const page = read(PAGE)
  const start = page.indexOf(START)
  const end = page.indexOf(END)
  if (start < 0 || end < start)
    throw new Error(`${PAGE}: the comments around the tables are missing`)
  return [
    [PAGE, page.slice(0, start + START.length) + section(result) + page.slice(end)],
    [CHART, chart(result)],
  ]
}

function section(result) {
  const parts = [
    machineLines(result)
      .map((line) => `- ${line}`)
      .join('\n'),
    `Each figure is ${spreadLine(result)}. ${LEGEND.replaceAll(/ {3}/g, ', ')}.`,
    ...tables(result).map(({ header, lines }) =>
      [header, header.map(() => '---'), ...lines]
        .map((line) => `| ${line.join(' | ')} |`)
        .join('\n'),
    ),
  ]
  return `\n${parts.join('\n\n')}\n\n`
}

function read(file) {
  return readFileSync(join(rootDirectory, file), 'utf8')
}
