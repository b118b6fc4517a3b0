// Draws the cost of each call beside its peers, as an SVG.

const CALLS = [
  ['nowNs', true],
  ['hrtime.bigint', false],
  ['nowMs', true],
  ['microtime', false],
  ['Date.now', false],
  ['performance.now', false],
  ['readInto', true],
  ['counter', true],
  ['C counter', false],
  ['isContinuous', true],
  ['C no-op', false],
]
const BAR = 9
const GAP = 8
const LEFT = 130
const WIDTH = 720
const TOP = 56
const SHADES = {
  ours: ['#0b5394', '#3d85c6', '#6fa8dc', '#9fc5e8'],
  peers: ['#666666', '#8a8a8a', '#adadad', '#cccccc'],
}

/** Returns the chart of a result. */
export function chart({ nodes, costs, machine }) {
  const most = Math.max(...CALLS.flatMap(([name]) => costs.nodes.map((found) => found[name] ?? 0)))
  const scale = (WIDTH - LEFT - 60) / most
  const group = nodes.length * BAR + GAP
  const height = TOP + CALLS.length * group + 10
  const parts = [
    text(10, 20, 'Nanoseconds a call; vmclock in blue', 14),
    text(10, 40, `Node ${nodes.join(', ')}, from above; ${machine.cpu}, ${machine.cpus} CPUs`, 11),
  ]
  for (const [place, [name, ours]] of CALLS.entries()) {
    const top = TOP + place * group
    parts.push(text(10, top + (nodes.length * BAR) / 2 + 4, name, 12))
    for (const [index, found] of costs.nodes.entries()) {
      const ns = found[name]
      if (ns === undefined) continue
      const y = top + index * BAR
      const shade = SHADES[ours ? 'ours' : 'peers'][index % 4]
      const width = (ns * scale).toFixed(1)
      parts.push(
        `<rect x="${LEFT}" y="${y}" width="${width}" height="${BAR - 1}" fill="${shade}"/>`,
      )
      parts.push(text(LEFT + ns * scale + 4, y + BAR - 1, ns.toFixed(1), 9))
    }
  }
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif">`,
    '<title>Nanoseconds a call, of vmclock and its peers</title>',
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    ...parts,
    '</svg>',
  ].join('\n')}\n`
}

function text(x, y, content, size) {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  return `<text x="${x.toFixed(1)}" y="${y}" font-size="${size}">${escaped}</text>`
}
