#!/usr/bin/env node
// Reads one page in Rust threads and in Node workers at once, while another process rewrites it: first
// with a pause of one microsecond between updates, then without a pause.
//
//   node tools/soak.mjs                two minutes
//   node tools/soak.mjs --long         an hour
//   node tools/soak.mjs --seconds N    N seconds
//
// Fails on a torn reading, and on every error except a timeout. With the pause a timeout fails too, unless
// the writer reports that it waited for a CPU in the middle of an update.

import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { asProgram, CommandFailed, capture, rootFolder, succeeds } from './command.mjs'

const { VmClockPage } = createRequire(import.meta.url)('vmclock/testing')
const tearing = join(rootFolder, '__test__', 'tearing')
const { fieldsOf } = createRequire(import.meta.url)(join(tearing, 'page.cjs'))

// One CPU is the writer's, so that updates meet readings instead of waiting for each other; the readers
// share the others, in as many threads of each kind.
const CPUS = availableParallelism()
const READERS = Math.max(1, Math.ceil((CPUS - 1) / 2))
// Of a reader that sees fewer states than these it shows nothing that it saw none torn: of a writer that
// pauses one in so many readings, of one that does not, which may let nobody look, so many.
const LEAST_SHARE = 1 / 1000
const LEAST_STATES = 100
// How long a reader waits for an update to end; a tenth of it is a writer that stands still.
const STANDSTILL_NS = 10_000_000
// What a process may have grown by between the middle and the end of a part, and after how many clocks V8's
// heap for what each of them leaves until it is collected has grown as far as it does: it stays there for
// ten times as many.
const GROWTH_KIB = 16 * 1024
const WARM_UP_CLOCKS = 20_000

await asProgram(import.meta.url, async (words) => {
  const { values } = parseArgs({
    args: words,
    options: { long: { type: 'boolean' }, seconds: { type: 'string' } },
  })
  const seconds = Number(values.seconds ?? (values.long ? 3600 : 120))
  if (!(seconds >= 2)) throw new CommandFailed('soak', words, '--seconds takes 2 or more')
  const rust = await rustReader()
  const faults = []
  let total = 0
  for (const manner of ['paused', 'open']) {
    const part = await soak(manner, Math.floor(seconds / 2), rust)
    total += part.readings
    faults.push(...part.faults)
  }
  console.log(`${total} readings in all`)
  if (faults.length > 0) throw new CommandFailed('soak', words, faults.join('; '))
})

async function rustReader() {
  const said = await capture('cargo', [
    ...['test', '--release', '-p', 'vmclock', '--test', 'tearing', '--no-run'],
    '--message-format=json',
  ])
  const built = said.split('\n').filter((line) => line.startsWith('{'))
  return built.map((line) => JSON.parse(line)).find(({ executable }) => executable).executable
}

async function soak(manner, seconds, rust) {
  const folder = mkdtempSync(join(tmpdir(), 'vmclock-soak-'))
  const path = join(folder, 'page')
  VmClockPage.create(path, fieldsOf(1)).close()
  const children = []
  try {
    const test = (name) => ['--ignored', '--exact', name, '--nocapture']
    const [lastCpu, otherCpus] = [`${CPUS - 1}`, `0-${Math.max(0, CPUS - 2)}`]
    await pin(process.pid, otherCpus)
    const writer = program(children, rust, test('soak_writer'), {
      VMCLOCK_SOAK_PAGE: path,
      ...(manner === 'paused' ? { VMCLOCK_SOAK_PAUSES: '1' } : {}),
    })
    await writer.lineThat((line) => line === 'writing')
    await pin(writer.child.pid, lastCpu)
    const threads = program(children, rust, test('soak'), {
      VMCLOCK_SOAK_PAGE: path,
      VMCLOCK_SOAK_SECONDS: String(seconds),
      VMCLOCK_SOAK_THREADS: String(READERS),
    })
    const endMs = performance.now() + seconds * 1000
    const workers = Array.from({ length: READERS }, () => worker(path, seconds))
    const pids = { node: process.pid, rust: threads.child.pid, writer: writer.child.pid }
    const seen = []
    for (const [when, part] of Object.entries({ start: 0.1, middle: 0.5, end: 0.9 })) {
      await wait(endMs - seconds * 1000 * (1 - part) - performance.now())
      seen.push(
        Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, resources(pid)])),
      )
      const figures = Object.entries(seen.at(-1)).map(
        ([name, { kib, descriptors }]) => `${name} ${kib} KiB, ${descriptors} descriptors`,
      )
      console.log(`${manner}, ${when}: ${figures.join('; ')}`)
    }
    const results = { worker: await Promise.all(workers), thread: [] }
    while (results.thread.length < READERS) {
      results.thread.push(JSON.parse(await threads.lineThat((line) => line.startsWith('{'))))
    }
    writer.child.stdin.end()
    const longestUpdateNs = Number(await writer.line())
    const faults = []
    let [readings, timeouts] = [0, 0]
    for (const [kind, each] of Object.entries(results)) {
      for (const [index, reader] of each.entries()) {
        const name = `${manner}, ${kind} ${index + 1}`
        const torn = count(reader.torn)
        readings += reader.readings
        timeouts += reader.timeouts
        console.log(
          `${name}: ${reader.readings} readings of ${reader.states} states, ${torn} torn, ${reader.timeouts} timeouts`,
        )
        if (torn > 0) faults.push(`${name}: ${torn} torn`)
        const least = manner === 'paused' ? reader.readings * LEAST_SHARE : LEAST_STATES
        if (reader.states < least) faults.push(`${name}: saw too few updates to show anything`)
      }
    }
    if (manner === 'paused' && timeouts > 0) {
      console.log(`${manner}: the longest update took ${longestUpdateNs} ns`)
      if (longestUpdateNs < STANDSTILL_NS) faults.push(`${manner}: ${timeouts} timeouts`)
    }
    for (const name of Object.keys(pids)) {
      const [middle, end] = seen.slice(1).map((each) => each[name])
      if (end.kib > middle.kib + GROWTH_KIB) faults.push(`${manner}: ${name} grows`)
      // A clock that a worker opens and closes holds one for a moment.
      if (end.descriptors > middle.descriptors + READERS)
        faults.push(`${manner}: ${name} keeps descriptors`)
    }
    return { readings, faults }
  } finally {
    for (const child of children) child.kill('SIGKILL')
    rmSync(folder, { recursive: true })
  }
}

/** Gives a process and its threads these CPUs alone, where there is more than one. */
async function pin(pid, cpus) {
  if (CPUS === 1) return
  const pinned = await succeeds('taskset', ['--all-tasks', '--pid', '--cpu-list', cpus, `${pid}`])
  if (!pinned) throw new CommandFailed('taskset', [cpus, pid], 'no taskset (util-linux)')
}

/** The torn ones of a reader in Node are a list, and those of one in Rust a number. */
function count(figure) {
  return Array.isArray(figure) ? figure.length : figure
}

function program(children, command, words, env = {}) {
  const child = spawn(command, words, {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  children.push(child)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = async () => {
    const { value, done } = await lines.next()
    if (done) throw new CommandFailed(command, words, 'ended early')
    return value
  }
  const lineThat = async (fits) => {
    let said
    do said = await line()
    while (!fits(said))
    return said
  }
  return { child, line, lineThat }
}

function worker(path, seconds) {
  const script = `
    const { setImmediate: turn } = require('node:timers/promises')
    const { parentPort, workerData } = require('node:worker_threads')
    const { reader, page: path, seconds } = workerData
    const { read } = require(reader)
    const { VmClock } = require('vmclock')
    async function soak() {
      for (let clocks = 0; clocks < ${WARM_UP_CLOCKS}; clocks++) {
        VmClock.open(path).close()
        await turn()
      }
      const sum = { readings: 0, timeouts: 0, states: 0, torn: [] }
      for (const endMs = performance.now() + seconds * 1000; performance.now() < endMs; ) {
        const part = read({ path, count: 100_000, leastStates: 0, strays: true })
        sum.readings += part.readings
        sum.timeouts += part.timeouts
        sum.states += part.states
        if (sum.torn.length < 5) sum.torn.push(...part.torn)
        // What a closed clock leaves is collected between turns of the event loop.
        await turn()
      }
      parentPort.postMessage(sum)
    }
    soak()`
  // The path is not in the place where reader.cjs, as a worker itself, would look for it.
  const workerData = { reader: join(tearing, 'reader.cjs'), page: path, seconds }
  return new Promise((resolve, reject) => {
    new Worker(script, { eval: true, workerData }).once('message', resolve).once('error', reject)
  })
}

function resources(pid) {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return { kib: Number(kib), descriptors: readdirSync(`/proc/${pid}/fd`).length }
}
