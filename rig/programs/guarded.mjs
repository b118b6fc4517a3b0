// Stamps in a tight loop while the host stops, migrates or clones this guest, and prints what the stamps said
// in runs of alike ones. The host judges them. Any line that is no command of the table is one for the shell.

import { execSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { VmClock } from 'vmclock'

// Two stamps are alike if their distances from the line differ by less.
const ALIKE_NS = 100_000_000n
const MOST_RUNS = 2_000
// Far more than the 64 that a step costs: a busy maker sees several reports as one.
const MOST_REPORTS = 400
// Longer than a maker's interval.
const REPORT_MS = 400
const nobody = new Int32Array(new SharedArrayBuffer(4))
// Longer than a watcher's look at a page by its timer.
const EVENTS_MS = 400

let clock
let watcher
let events = []
let token
// A line of time over the counter, which the host gives and which stamps are compared with.
let line = { counter: 0n, ns: 0n, perTicks: 1n, perNs: 1n }

const answers = {
  /** Opens a clock, with options as JSON; `path` names a page. Prints its source. */
  open(json) {
    const { path, ...options } = JSON.parse(json)
    clock = path === undefined ? VmClock.open(options) : VmClock.open(path, options)
    return JSON.stringify(clock.timeSource ?? null, figures)
  },

  close() {
    watcher?.close()
    watcher = undefined
    clock.close()
    return 'done'
  },

  /** Watches the open clock. */
  watch() {
    events = []
    watcher = clock.watch()
    for (const type of ['disruption', 'generation', 'error']) {
      watcher.on(type, ({ previous, current, code }) =>
        events.push({ type, previous, current, code }),
      )
    }
    return 'done'
  },

  /** The events so far, after a while in which another would come. */
  async events() {
    await new Promise((resolve) => setTimeout(resolve, EVENTS_MS))
    const seen = events
    events = []
    return JSON.stringify(seen, figures)
  },

  counter: () => `${clock.counter()}`,

  /** CLOCK_REALTIME in nanoseconds, whole milliseconds. */
  realtime: () => `${BigInt(Date.now()) * 1_000_000n}`,

  /**
   * Reports errors above `us` to the kernel as a daemon does, each less than the one before, until a reading
   * has a bound. Prints how many it took.
   */
  report(us) {
    for (let count = 1; count <= MOST_REPORTS; count++) {
      const above = Number(us) + (MOST_REPORTS - count) * 301
      // A multiple of 500 looks as if the kernel had counted it up from 0.
      const figure = above % 500 === 0 ? above + 1 : above
      const answer = shell(`./adjtimex --status 0 --maxerror ${figure} --esterror ${figure}`)
      if (!answer.startsWith('done')) return answer
      Atomics.wait(nobody, 0, 0, REPORT_MS)
      if (clock.read().maxErrorNs !== undefined) return `${count}`
    }
    return `no bound after ${MOST_REPORTS} reports: ${answers.bound()}`
  },

  line(counter, ns, perTicks, perNs) {
    line = { counter, ns, perTicks, perNs }
    for (const name of Object.keys(line)) line[name] = BigInt(line[name])
    return 'done'
  },

  token() {
    token = clock.continuityToken()
    return JSON.stringify(token, figures)
  },

  isContinuous: () => `${clock.isContinuous(token)}`,

  /** Whether a reading has a bound now; else the reason. */
  bound() {
    const { maxErrorNs } = clock.read()
    const { reason, updatesLeft } = clock.snapshot().boundUnavailable ?? {}
    return maxErrorNs === undefined
      ? `none: ${reason} ${updatesLeft ?? ''}`.trim()
      : `${maxErrorNs}`
  },

  /** Stamps in a tight loop for so long by the guest's clock, and prints the runs. */
  stamp(ms) {
    // The host waits for this line before it interferes.
    console.log('stamping')
    return JSON.stringify(runsOf(Number(ms)), figures)
  },

  /** Stamps in a tight loop until there is a bound, at the latest after so long. */
  stampUntilBound(ms) {
    console.log('stamping')
    return JSON.stringify(
      runsOf(Number(ms), ({ maxErrorNs }) => maxErrorNs !== undefined),
      figures,
    )
  },
}

console.log('ready')
for await (const text of createInterface({ input: process.stdin })) {
  if (text === 'end') break
  const [word, ...rest] = text.split(' ')
  const answer = Object.hasOwn(answers, word) ? answers[word] : () => shell(text)
  console.log(await answer(...rest))
}
watcher?.close()
clock?.close()
process.exit()

/** Stamps for so long, or until one is as wanted, and merges successive alike stamps into runs. */
function runsOf(ms, isWanted = () => false) {
  const runs = []
  let run
  const endMs = performance.now() + ms
  for (let isLast = false; !isLast; ) {
    let stamp
    try {
      stamp = clock.read()
    } catch ({ code }) {
      stamp = { code, counter: clock.counter() }
    }
    isLast = isWanted(stamp) || performance.now() >= endMs
    const { counter, epochNs, earliestNs, latestNs, disruptionMarker, vmGeneration, code } = stamp
    const lineNs = line.ns + ((counter - line.counter) * line.perNs) / line.perTicks
    const offNs = code === undefined ? epochNs - lineNs : 0n
    const isAlike =
      run !== undefined &&
      run.code === code &&
      run.isBounded === (earliestNs !== undefined) &&
      run.disruptionMarker === disruptionMarker &&
      run.vmGeneration === vmGeneration &&
      offNs - run.offNs < ALIKE_NS &&
      run.offNs - offNs < ALIKE_NS
    if (!isAlike) {
      const isBounded = earliestNs !== undefined
      run = { code, isBounded, disruptionMarker, vmGeneration, offNs, first: counter, count: 0 }
      runs.push(run)
      if (runs.length > MOST_RUNS) throw new Error('too many runs')
    }
    run.count += 1
    run.last = counter
    if (!run.isBounded) continue
    // The line as it lies within all of these intervals, at least so far from their ends.
    const [earliest, latest] = [earliestNs - lineNs, latestNs - lineNs]
    if (run.mostEarliest === undefined || earliest > run.mostEarliest) run.mostEarliest = earliest
    if (run.leastLatest === undefined || latest < run.leastLatest) run.leastLatest = latest
  }
  return runs
}

function shell(command) {
  try {
    const printed = execSync(command, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' })
    return `done ${printed}`.trimEnd().replaceAll('\n', '; ')
  } catch (error) {
    return `failed: ${error.message} ${error.stdout} ${error.stderr}`.replaceAll('\n', ' ')
  }
}

function figures(_, value) {
  return typeof value === 'bigint' ? `${value}` : value
}
