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
import { asProgram, CommandFailed, capture, rootDirectory, succeeds } from './command.mjs'

const { VmClockPage } = createRequire(import.meta.url)('vmclock/testing')
const tearing = join(rootDirectory, '__test__', 'tearing')
const { fieldsOf } = createRequire(import.meta.url)(join(tearing, 'page.cjs'))

// The writer has a CPU of its own, so that updates collide with readings instead of waiting for them. The
// readers share the other CPUs: this many Rust threads that read in order, as many that do not, and as many Node
// workers.
const CPUS = availableParallelism()
const READERS = Math.max(1, Math.ceil((CPUS - 1) / 2))

// A reader that sees fewer states shows nothing. Beside a writer that pauses: one state in 1,000 readings.
// A writer that never pauses may leave readers no time between updates: 100 states.
const LEAST_STATES = { paused: ({ readings }) => readings / 1000, unpaused: () => 100 }

// A reader waits 100 ms for an update to end. An update that took a tenth of that explains a timeout.
const LONG_UPDATE_NS = 10_000_000

// A process may grow by this much between the middle and the end of a part. Each closed clock leaves an
// object in V8's heap until it is collected; after these clocks the heap has reached its size.
const GROWTH_KIB = 16 * 1024
const WARM_UP_CLOCKS = 20_000

await asProgram(import.meta.url, async (words) => {
  const { values } = parseArgs({
    args: words,
    options: { long: { type: 'boolean' }, seconds: { type: 'string' } },
  })
  const seconds = Number(values.seconds ?? (values.long ? 3600 : 120))
  if (!(seconds >= 2)) throw new CommandFailed('soak', words, '--seconds takes 2 or more')
  const rust = await rustProgram()
  const faults = []
  for (const manner of ['paused', 'unpaused']) {
    faults.push(...(await soak(manner, Math.floor(seconds / 2), rust)))
  }
  if (faults.length > 0) throw new CommandFailed('soak', words, faults.join('; '))
})

/** Builds the Rust test that contains the writer and the reading threads. */
async function rustProgram() {
  const messages = await capture('cargo', [
    ...['test', '--release', '-p', 'vmclock', '--test', 'tearing', '--no-run'],
    '--message-format=json',
  ])
  const objects = messages.split('\n').filter((line) => line.startsWith('{'))
  return objects.map((line) => JSON.parse(line)).find(({ executable }) => executable).executable
}

/** Reads for this many seconds and returns the faults. */
async function soak(manner, seconds, rust) {
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-soak-'))
  const path = join(directory, 'page')
  VmClockPage.create(path, fieldsOf(1)).close()
  const children = []
  try {
    const writer = await startWriter(children, rust, path, manner)
    const threads = startThreads(children, rust, path, seconds)
    const workers = Array.from({ length: READERS }, () => startWorker(path, seconds))
    const pids = { node: process.pid, rust: threads.child.pid, writer: writer.child.pid }
    const usage = await watchUsage(manner, pids, seconds)
    const readers = named('worker', await Promise.all(workers))
    readers.push(...named('thread', await threadResults(threads)))
    writer.child.stdin.end()
    const longestUpdateNs = Number(await writer.line())
    return [
      ...readingFaults(manner, readers, longestUpdateNs),
      ...usageFaults(usage[1], usage[2]),
    ].map((fault) => `${manner}: ${fault}`)
  } finally {
    for (const child of children) child.kill('SIGKILL')
    rmSync(directory, { recursive: true })
  }
}

async function startWriter(children, rust, path, manner) {
  const [lastCpu, otherCpus] = [`${CPUS - 1}`, `0-${Math.max(0, CPUS - 2)}`]
  await pin(process.pid, otherCpus)
  const writer = program(children, rust, ignoredTest('soak_writer'), {
    VMCLOCK_SOAK_PAGE: path,
    ...(manner === 'paused' ? { VMCLOCK_SOAK_PAUSES: '1' } : {}),
  })
  await writer.lineThat((line) => line === 'writing')
  await pin(writer.child.pid, lastCpu)
  return writer
}

function startThreads(children, rust, path, seconds) {
  return program(children, rust, ignoredTest('soak'), {
    VMCLOCK_SOAK_PAGE: path,
    VMCLOCK_SOAK_SECONDS: String(seconds),
    VMCLOCK_SOAK_THREADS: String(READERS),
  })
}

function ignoredTest(name) {
  return ['--ignored', '--exact', name, '--nocapture']
}

/** Returns the memory and the descriptors of each process near the start, the middle and the end. */
async function watchUsage(manner, pids, seconds) {
  const startMs = performance.now()
  const seen = []
  for (const [when, share] of Object.entries({ start: 0.1, middle: 0.5, end: 0.9 })) {
    await wait(startMs + seconds * 1000 * share - performance.now())
    const usage = Object.entries(pids).map(([name, pid]) => ({ name, ...usageOf(pid) }))
    const figures = usage.map(
      ({ name, kib, descriptors }) => `${name} ${kib} KiB, ${descriptors} descriptors`,
    )
    console.log(`${manner}, ${when}: ${figures.join('; ')}`)
    seen.push(usage)
  }
  return seen
}

function usageOf(pid) {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return { kib: Number(kib), descriptors: readdirSync(`/proc/${pid}/fd`).length }
}

function usageFaults(middle, end) {
  return end.flatMap(({ name, kib, descriptors }, index) => [
    ...(kib > middle[index].kib + GROWTH_KIB ? [`${name} grows`] : []),
    // Each worker may have one clock open while it opens and closes clocks.
    ...(descriptors > middle[index].descriptors + READERS ? [`${name} leaks descriptors`] : []),
  ])
}

async function threadResults(threads) {
  const results = []
  while (results.length < 2 * READERS) {
    results.push(JSON.parse(await threads.lineThat((line) => line.startsWith('{'))))
  }
  return results
}

function named(kind, results) {
  return results.map((result, index) => ({ name: `${kind} ${index + 1}`, ...result }))
}

function readingFaults(manner, readers, longestUpdateNs) {
  const faults = []
  for (const reader of readers) {
    const { name, readings, states, timeouts } = reader
    // A worker lists its torn readings, and a thread counts them.
    const torn = Array.isArray(reader.torn) ? reader.torn.length : reader.torn
    console.log(
      `${manner}, ${name}: ${readings} readings of ${states} states, ${torn} torn, ${timeouts} timeouts`,
    )
    if (torn > 0) faults.push(`${name}: ${torn} torn`)
    if (states < LEAST_STATES[manner](reader)) faults.push(`${name}: saw too few updates`)
  }
  const timeouts = readers.reduce((sum, reader) => sum + reader.timeouts, 0)
  if (manner === 'paused' && timeouts > 0) {
    console.log(`${manner}: the longest update took ${longestUpdateNs} ns`)
    if (longestUpdateNs < LONG_UPDATE_NS) faults.push(`${timeouts} timeouts`)
  }
  return faults
}

/** Restricts a process and its threads to these CPUs, if there is more than one. */
async function pin(pid, cpus) {
  if (CPUS === 1) return
  const pinned = await succeeds('taskset', ['--all-tasks', '--pid', '--cpu-list', cpus, `${pid}`])
  if (!pinned) throw new CommandFailed('taskset', [cpus, pid], 'no taskset (util-linux)')
}

/** Starts a program, and reads its output line by line. */
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
    let found
    do found = await line()
    while (!fits(found))
    return found
  }
  return { child, line, lineThat }
}

/** Starts a worker that reads for this many seconds, and resolves to its counts. */
function startWorker(path, seconds) {
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
      let ordered = false
      for (const endMs = performance.now() + seconds * 1000; performance.now() < endMs; ) {
        // Every other part reads the counter without a fence.
        ordered = !ordered
        const part = read({ path, count: 100_000, leastStates: 0, strays: true, ordered })
        sum.readings += part.readings
        sum.timeouts += part.timeouts
        sum.states += part.states
        if (sum.torn.length < 5) sum.torn.push(...part.torn)
        // V8 collects closed clocks between turns of the event loop.
        await turn()
      }
      parentPort.postMessage(sum)
    }
    soak()`
  // Not named `path`: reader.cjs would take that as its own input and start to read.
  const workerData = { reader: join(tearing, 'reader.cjs'), page: path, seconds }
  return new Promise((resolve, reject) => {
    new Worker(script, { eval: true, workerData }).once('message', resolve).once('error', reject)
  })
}
