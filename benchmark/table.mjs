// The table, for people.

const MARKS = { goal: '✓', floor: '~', missed: '✗' }

/** Prints what was found. */
export function printTable({ machine, quick, runs, nodes, peers, rows, costs, instructions }) {
  console.log(
    `\n${machine.cpu}, ${machine.cpus} CPUs, ${machine.hypervisor ?? 'no known hypervisor'}`,
  )
  console.log(`Linux ${machine.kernel}, clocksource ${machine.clocksource}`)
  console.log(`${machine.rustc}; ${machine.cc ?? 'no C compiler'}`)
  console.log(`load ${machine.load.toFixed(2)} before, ${machine.loadAfter.toFixed(2)} after`)
  console.log(`peers in C: ${peers}`)
  console.log(
    quick
      ? 'quick: a few rounds, which show that it works; the figures mean nothing\n'
      : `worst median of ${runs} runs, with the quartiles of its rounds\n`,
  )
  const perNode = rows.filter(({ ofCore }) => !ofCore)
  const perCore = rows.filter(({ ofCore }) => ofCore)
  print(
    ['', 'goal', 'floor', ...nodes.map((version) => `Node ${version}`)],
    perNode.map((row) => [...head(row), ...row.columns.map(cell)]),
  )
  if (perCore.length > 0) {
    print(
      ['core, in Rust', 'goal', 'floor', ''],
      perCore.map((row) => [...head(row), ...row.columns.map(cell)]),
    )
  }
  console.log('✓ goal reached   ~ floor reached   ✗ missed\n')
  const names = Object.keys(costs.nodes[0])
  print(
    ['medians (ns a call; calls a ms by workers)', ...nodes.map((version) => `Node ${version}`)],
    names.map((name) => [name, ...costs.nodes.map((found) => figure(found[name]))]),
  )
  const core = Object.entries(costs.core)
  if (core.length > 0) {
    print(
      ['medians of the core', 'ns a call', 'instructions'],
      core.map(([name, ns]) => [name, figure(ns), String(instructions?.[name] ?? '')]),
    )
  }
  if (instructions !== undefined)
    console.log(`instructions a call: ${JSON.stringify(instructions)}`)
}

function head({ title, goal, floor, more }) {
  const sign = more ? '≥' : '≤'
  return [title, `${sign} ${goal}`, `${sign} ${floor}`]
}

function cell(column) {
  if (column === undefined) return 'skipped'
  const [lower, upper] = column.quartiles
  return `${figure(column.median)} ${MARKS[column.standing]} (${figure(lower)}–${figure(upper)})`
}

function figure(value) {
  if (value === undefined) return ''
  if (value === 0) return '0'
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 3)
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
