// Runs the lease service and three programs on machines whose clocks differ, and kills, stops and restarts them and
// takes their bounds away. Then it compares the instants at which each of them acted as the owner.

import { fork } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { exactFields, machinePage, setBound } from './machines.mjs'

const HOLDERS = 3
const STOP_MS = 350
// Shorter than a lease: requests of others come before the owner's, who still acts.
const SHORT_STOP_MS = 150

/** Runs it for some seconds, with all disturbances or only with stopped owners. Returns the number of owners, of acts, and of pairs of owners that overlap. */
export async function runLeases({ seconds, maxErrorNs, skewsNs, onlyStops = false }) {
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-lease-'))
  const children = new Map()
  const at = (name) => join(directory, name)
  try {
    const fields = exactFields(directory)
    const pages = skewsNs.map((skewNs, machine) =>
      machinePage(at(`machine-${machine}`), fields, skewNs, maxErrorNs),
    )
    const state = at('state.json')
    const socket = at('socket')
    let restarts = 0
    const startServer = () =>
      start(children, 'server', 'lease-server.mjs', [at('machine-0'), state, socket])
    const startHolder = (index) => {
      restarts++
      // Each process has a name and a file of its own, so a killed one leaves its acts.
      const name = `${index}-${restarts}`
      start(children, `holder-${index}`, 'lease-holder.mjs', [
        at(`machine-${index}`),
        name,
        socket,
        at(`acts-${name}`),
      ])
    }
    startServer()
    for (let index = 1; index <= HOLDERS; index++) startHolder(index)
    const ends = Date.now() + seconds * 1000
    const stopOwner = () => pause(children.get(`holder-${ownerOf(state)}`))
    const disturbances = [
      async () => {
        await kill(children, 'server')
        startServer()
      },
      async () => {
        const index = ownerOf(state)
        await kill(children, `holder-${index}`)
        startHolder(index)
      },
      stopOwner,
      () => pause(children.get('server')),
      () => pause(children.get('server'), SHORT_STOP_MS),
      async () => {
        const page = pages[ownerOf(state)]
        setBound(page, false)
        await delay(STOP_MS)
        setBound(page, true)
      },
      async () => {
        setBound(pages[0], false)
        await delay(STOP_MS)
        setBound(pages[0], true)
      },
    ]
    for (let turn = 0; Date.now() < ends; turn++) {
      await delay(100)
      await (onlyStops ? stopOwner : disturbances[turn % disturbances.length])()
    }
    for (const name of [...children.keys()]) await kill(children, name)
    for (const page of pages) page.close()
    return overlaps(directory)
  } finally {
    for (const name of [...children.keys()]) await kill(children, name)
    rmSync(directory, { recursive: true, force: true })
  }
}

function start(children, name, program, args) {
  const child = fork(fileURLToPath(new URL(program, import.meta.url)), args)
  child.on('message', () => {})
  children.set(name, child)
}

/** Kills a process as the kernel does when memory is short, and waits until it is gone. */
async function kill(children, name) {
  const child = children.get(name)
  if (child === undefined) return
  children.delete(name)
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
}

/** Stops a process, by default for longer than a lease lasts, as a paused virtual machine. */
async function pause(child, stopMs = STOP_MS) {
  child.kill('SIGSTOP')
  await delay(stopMs)
  child.kill('SIGCONT')
}

/** The machine of the present owner; the first one before there is an owner. */
function ownerOf(state) {
  if (!existsSync(state)) return 1
  return Number(JSON.parse(readFileSync(state, 'utf8')).owner.split('-')[0])
}

/** Compares the spans in which the owners acted, by the counter that all processes here share. */
function overlaps(directory) {
  const spans = new Map()
  let acts = 0
  for (const file of readdirSync(directory).filter((name) => name.startsWith('acts-'))) {
    // A killed process may have left half a line.
    const lines = readFileSync(join(directory, file), 'utf8').split('\n').slice(0, -1)
    for (const line of lines) {
      const [counter, token] = line.split(' ').map(BigInt)
      const span = spans.get(token) ?? { first: counter, last: counter }
      if (counter < span.first) span.first = counter
      if (counter > span.last) span.last = counter
      spans.set(token, span)
      acts++
    }
  }
  const inOrder = [...spans.values()].sort((a, b) => (a.first < b.first ? -1 : 1))
  const overlapping = inOrder.filter(
    ({ first }, index) => index > 0 && first <= inOrder[index - 1].last,
  )
  return { owners: inOrder.length, acts, overlaps: overlapping.length }
}

/** True bounds, and a bound that is false: the second and third machine's clocks are far behind. */
export const RUNS = [
  {
    name: 'true bounds',
    maxErrorNs: 5_000_000n,
    skewsNs: [4_900_000n, -4_900_000n, 4_900_000n, 0n],
  },
  {
    name: 'false bounds',
    onlyStops: true,
    maxErrorNs: 1_000n,
    skewsNs: [0n, -400_000_000n, -400_000_000n, -400_000_000n],
  },
]

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const seconds = Number(process.argv[2] ?? 10)
  for (const { name, ...run } of RUNS) {
    const { owners, acts, overlaps } = await runLeases({ seconds, ...run })
    console.log(`${name}: ${owners} owners, ${acts} acts, ${overlaps} times two owners at once`)
  }
}
