// Makes the tables, for the terminal and for the docs.

const MARKS = { goal: '✓', floor: '~', missed: '✗', unreached: '?' }

/** Explains the marks of the tables. */
export const LEGEND =
  '✓ goal reached   ~ floor reached   ✗ missed   ? not rated, because the writer fell behind'

/** Prints the results. */
export function printTable(result) {
  console.log(`\n${machineLines(result).join('\n')}`)
  console.log(
    result.quick
      ? '--quick: this checks that the benchmark works; the figures mean nothing\n'
      : `${spreadLine(result)}\n`,
  )
  for (const { header, lines } of tables(result)) print(header, lines)
  console.log(LEGEND)
}

/** Describes the machine. */
export function machineLines({ machine, peers }) {
  return [
    `${machine.cpu}, ${machine.cpus} CPUs, ${machine.hypervisor ?? 'no known hypervisor'}`,
    `Linux ${machine.kernel}, clocksource ${machine.clocksource}`,
    `${machine.rustc}; ${machine.cc ?? 'no C compiler'}`,
    `load ${machine.load.toFixed(2)} before, ${machine.loadAfter.toFixed(2)} after`,
    `peers in C: ${peers}`,
  ]
}

/** Describes the contents of a cell. */
export function spreadLine({ runs }) {
  return runs === 1
    ? 'the median of one run, with the quartiles of its rounds'
    : `the worst median of ${runs} runs, with the quartiles of its rounds`
}

/** Returns the header and the lines of each table, as text. */
export function tables({ nodes, rows, costs, instructions }) {
  const perNode = nodes.map((version) => `Node ${version}`)
  const names = [...new Set(costs.nodes.flatMap((found) => Object.keys(found)))]
  const all = [
    table(['', 'goal', 'floor', ...perNode], rows.filter(isOf({ core: false, target: true }))),
    table(
      ['the core, in Rust', 'goal', 'floor', 'figure'],
      rows.filter(isOf({ core: true, target: true })),
    ),
    table(
      ['other clocks, and scale', ...perNode],
      rows.filter(isOf({ core: false, target: false })),
    ),
    table(['peers of the core', 'figure'], rows.filter(isOf({ core: true, target: false }))),
    {
      header: ['medians: ns a call, calls a ms by workers, or as named', ...perNode],
      lines: names.map((name) => [name, ...costs.nodes.map((found) => figure(found[name]))]),
    },
    {
      header: ['medians of the core', 'ns a call', 'instructions'],
      lines: Object.entries(costs.core).map(([name, ns]) => [
        name,
        figure(ns),
        String(instructions?.[name] ?? ''),
      ]),
    },
    {
      header: ['the core, counted', 'instructions a call'],
      lines: Object.entries(instructions ?? {}).map(([name, count]) => [name, String(count)]),
    },
  ]
  return all.filter(({ lines }) => lines.length > 0)
}

function isOf({ core, target }) {
  return ({ ofCore, goal }) => ofCore === core && (goal !== undefined) === target
}

function table(header, rows) {
  return { header, lines: rows.map((row) => [...head(row), ...row.columns.map(cell)]) }
}

function head({ title, goal, floor, more }) {
  if (goal === undefined) return [title]
  const sign = more ? '≥' : '≤'
  return [title, `${sign} ${goal}`, `${sign} ${floor}`]
}

function cell(column) {
  // `null` in a result that was read from a file.
  if (column == null) return 'skipped'
  const [lower, upper] = column.quartiles
  const mark = column.standing === undefined ? '' : ` ${MARKS[column.standing]}`
  const writer =
    column.reachedHz === undefined ? '' : `; writer ${figure(column.reachedHz / 1_000)} kHz`
  return `${figure(column.median)}${mark} (${figure(lower)}–${figure(upper)}${writer})`
}

function figure(value) {
  if (value === undefined) return ''
  if (value === 0) return '0'
  const size = Math.abs(value)
  return size >= 100 ? value.toFixed(0) : value.toFixed(size >= 10 ? 1 : 3)
}

function print(header, lines) {
  const all = [header, ...lines]
  const widths = header.map((_, column) => Math.max(...all.map((line) => line[column].length)))
  for (const line of all) {
    console.log(
      line
        .map((text, column) => text.padEnd(widths[column]))
        .join('  ')
        .trimEnd(),
    )
  }
  console.log()
}
