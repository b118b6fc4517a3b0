// Makes docs/deploy.svg: the place of this package between the machine, its services and its operators.
//
//   node tools/deploy-picture.mjs [FILE]    writes docs/deploy.svg, or the file

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { asProgram, rootDirectory } from './command.mjs'

const SIZE = { width: 760, height: 372 }
const TITLE =
  'A page is written by the hypervisor or a publisher, read by services, and watched by operators'

/** Each box: its place, its colour, its heading, and its lines. A line in backquotes is code. */
const BOXES = [
  [14, 40, 200, 84, 'blue', "hypervisor's device", ['knows of migrations', '`/dev/vmclock0`']],
  [14, 144, 200, 84, 'plain', 'source of time', ['chrony, ClockBound, ENA', 'knows the time']],
  [280, 92, 200, 84, 'yellow', 'vmclock publish', ['time, bound, marker', '`/run/vmclock/page`']],
  [546, 40, 200, 84, 'green', 'your services', ['`VmClock.open()`', 'no system call']],
  [
    546,
    144,
    200,
    84,
    'green',
    'vmclock metrics',
    ['`--file` or `--listen`', 'bound, age, disruptions'],
  ],
  [280, 274, 200, 84, 'plain', 'Prometheus', ['node_exporter, or a scrape', '`alerts.yml`']],
  [14, 274, 200, 84, 'plain', 'Grafana, on call', ['`dashboard.json`', 'graphs and alerts']],
]

const ARROWS = [
  'M214 82H247V120H274',
  'M214 186H247V148H274',
  'M480 120H513V82H540',
  'M480 148H513V186H540',
  'M214 60H540',
  'M646 228V316H486',
  'M280 316H220',
]

const NOTES = [
  [250, 52, 'directly, if the device gives a bound'],
  [14, 26, 'the machine'],
  [14, 262, 'elsewhere'],
]

/** Returns the picture. It follows the reader's choice of light or dark. */
function picture() {
  const boxes = BOXES.map(
    ([x, y, width, height, kind, heading, lines]) =>
      `<rect class="${kind}" x="${x}" y="${y}" width="${width}" height="${height}" rx="6"/>` +
      `<text class="heading" x="${x + 14}" y="${y + 26}">${heading}</text>` +
      lines.map((line, index) => text(x + 14, y + 48 + 20 * index, line)).join(''),
  )
  const arrows = ARROWS.map((path) => `<path class="arrow" d="${path}" marker-end="url(#tip)"/>`)
  const notes = NOTES.map(([x, y, note]) => `<text class="note" x="${x}" y="${y}">${note}</text>`)
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIZE.width} ${SIZE.height}" width="${SIZE.width}" height="${SIZE.height}" font-family="sans-serif" font-size="12">
<title>${TITLE}</title>
<style>
svg { --ink: #1b1f24; --quiet: #57606a; --card: #fff; --blue: #ddf4ff; --yellow: #fff8c5; --green: #dafbe1; --plain: #f6f8fa }
@media (prefers-color-scheme: dark) {
svg { --ink: #e6edf3; --quiet: #9198a1; --card: #0d1117; --blue: #0c2d4a; --yellow: #3b2e0a; --green: #12341d; --plain: #1c2128 }
}
.card { fill: var(--card) } .blue { fill: var(--blue) } .yellow { fill: var(--yellow) } .green { fill: var(--green) } .plain { fill: var(--plain) }
rect:not(.card) { stroke: var(--quiet) } text { fill: var(--ink) } .note { fill: var(--quiet) } .heading { font-weight: bold; font-size: 14px } .code { font-family: monospace }
.arrow { fill: none; stroke: var(--quiet); stroke-width: 1.5 } #tip path { fill: var(--quiet) }
</style>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0 10 5 0 10z"/></marker></defs>
<rect class="card" width="${SIZE.width}" height="${SIZE.height}" rx="8"/>
${[...boxes, ...arrows, ...notes].join('\n')}
</svg>
`
}

function text(x, y, line) {
  const parts = line.split('`').map((part, index) => {
    const isCode = index % 2 === 1
    return part === '' ? '' : `<tspan${isCode ? ' class="code"' : ''}>${part}</tspan>`
  })
  return `<text x="${x}" y="${y}">${parts.join('')}</text>`
}

await asProgram(import.meta.url, ([file = join(rootDirectory, 'docs/deploy.svg')]) => {
  writeFileSync(file, picture())
})
