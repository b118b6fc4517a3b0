// Migrations mark exactly the spans of OpenTelemetry that they cross, and spans have the true times to the bound that
// they state. The real SDK makes the spans in the guest.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { build } from 'esbuild'
import { installLibraries } from '../../tools/adapters.mjs'
import { rootDirectory } from '../../tools/command.mjs'
import { withGuest } from '../guest.mjs'
import { hostNowNs, pairWithHost, timeFields } from '../page.mjs'
import { scratchDirectory } from '../scratch.mjs'

// VMCLOCK_STATUS_INITIALIZING: the page has no reference since the migration.
const INITIALIZING = 1

const NS_PER_S = 1_000_000_000n
const AN_HOUR_NS = 3_600n * NS_PER_S

export const setUp = () => installLibraries()

export const ownGuests = {
  async 'a migration marks exactly the spans that it crosses, and their times are true'(prepared) {
    const { directory, remove } = scratchDirectory()
    try {
      const file = join(directory, 'spans.mjs')
      await bundle(file)
      await withGuest(prepared, { programs: [['spans.mjs', file]] }, testSpans)
    } finally {
      remove()
    }
  },
}

async function testSpans(guest) {
  const spans = await guest.talk('spans.mjs')
  /** When the host asked for each time of a span, and when it had the answer. */
  const brackets = new Map()
  const step = async (...words) => {
    const fromNs = hostNowNs()
    assert.equal(await spans.ask(words.join(' ')), 'done')
    brackets.set(words.slice(0, 2).join(' '), { fromNs, toNs: hostNowNs() })
  }
  const start = (...names) => step('start', ...names)
  const end = (name) => step('end', name)
  const event = (name) => step('event', name)
  /** Migrates the guest to a host with another marker, whose clock is behind by so much. */
  const migrate = async (disruptionMarker, behindNs) => {
    await guest.migrate(() => guest.page.write({ disruptionMarker, clockStatus: INITIALIZING }))
    const { epochNs, ...pair } = await pairWithHost(async () => BigInt(await spans.ask('counter')))
    const reference = { ...pair, epochNs: epochNs - behindNs }
    guest.page.write({
      counterId: guest.machine.counterId,
      ...timeFields(reference, await guest.counterRate()),
    })
  }

  await start('before')
  await end('before')
  await start('root')
  await start('childBefore', 'root')
  await end('childBefore')
  await start('crossed', 'root')
  await start('lone')
  await migrate(2n, 0n)
  await event('crossed')
  await event('root')
  await start('childAfter', 'root')
  await end('childAfter')
  await end('crossed')
  await end('lone')
  await start('between')
  await end('between')
  await migrate(3n, AN_HOUR_NS)
  await start('childBehind', 'root')
  await event('childBehind')
  await end('childBehind')
  await end('root')
  await start('after')
  await end('after')
  const ended = JSON.parse(await spans.ask('ended'))
  await spans.end()

  const span = Object.fromEntries(ended.map((one) => [one.name, one]))
  assert.equal(ended.length, 9)
  assertMarks(ended, {
    root: [
      ['1', '2'],
      ['2', '3'],
    ],
    crossed: [['1', '2']],
    lone: [['1', '2']],
  })
  for (const child of ['childBefore', 'crossed', 'childAfter', 'childBehind'])
    assert.equal(span[child].parent, span.root.id)

  // In the order of the steps above.
  const eventTimes = ({ events }) => events.map(({ time }) => time)
  const inTrace = [
    span.root.startTime,
    ...[span.childBefore.startTime, span.childBefore.endTime],
    ...[span.crossed.startTime, ...eventTimes(span.crossed)],
    ...eventTimes(span.root).slice(0, 2),
    ...[span.childAfter.startTime, span.childAfter.endTime],
    span.crossed.endTime,
    ...[span.childBehind.startTime, ...eventTimes(span.childBehind), span.childBehind.endTime],
    ...eventTimes(span.root).slice(2),
    span.root.endTime,
  ].map(ns)
  for (const [index, timeNs] of inTrace.entries())
    assert.ok(index === 0 || timeNs >= inTrace[index - 1], `${inTrace.join()} steps back`)
  // The clock did step back: only the trace held its last time.
  assert.equal(ns(span.childBehind.startTime), ns(span.crossed.endTime))
  assert.ok(ns(span.after.startTime) < ns(span.before.startTime))

  // The last host's time is false.
  for (const one of ended) if (one !== span.after) assertTrue(one, brackets)
}

/** Asserts that exactly these spans have marks: pairs of markers by the span's name. */
function assertMarks(ended, expected) {
  const marks = {}
  for (const { name, attributes, events } of ended) {
    const crossings = events.filter((event) => event.name === 'vmclock.disruption')
    assert.equal(attributes['vmclock.disrupted'], crossings.length > 0 ? true : undefined, name)
    assert.equal(attributes['vmclock.restored'], undefined, name)
    assert.equal(attributes['vmclock.system_time'], undefined, name)
    if (crossings.length === 0) continue
    marks[name] = crossings.map(({ attributes }) => [
      attributes['vmclock.disruption_marker.before'],
      attributes['vmclock.disruption_marker.after'],
    ])
  }
  assert.deepEqual(marks, expected)
}

/** Asserts that the true times of a span's start and end lie within the bounds that it states. */
function assertTrue({ name, startTime, endTime, attributes }, brackets) {
  for (const [step, time] of Object.entries({ start: startTime, end: endTime })) {
    const boundNs = attributes[`vmclock.${step}.max_error_ns`]
    assert.ok(Number.isSafeInteger(boundNs), `${name} has a bound of its ${step}`)
    const [earliestNs, latestNs] = [ns(time) - BigInt(boundNs), ns(time) + BigInt(boundNs)]
    const { fromNs, toNs } = brackets.get(`${step} ${name}`)
    assert.ok(
      earliestNs <= toNs && fromNs <= latestNs,
      `${name} has its ${step} from ${earliestNs} to ${latestNs}, the host from ${fromNs} to ${toNs}`,
    )
  }
}

function ns([seconds, nanoseconds]) {
  return BigInt(seconds) * NS_PER_S + BigInt(nanoseconds)
}

/**
 * Bundles the guest's program with the SDK and the adapter. Both have to find one copy of OpenTelemetry's API. The
 * package itself is in the guest.
 */
async function bundle(outfile) {
  const library = (name) => join(rootDirectory, 'install/adapters/node_modules', name)
  await build({
    absWorkingDir: rootDirectory,
    entryPoints: ['rig/programs/spans.mjs'],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    logLevel: 'error',
    // An ES module has no `require`, and esbuild defines none for the CommonJS code in it.
    banner: {
      js: `import { createRequire as r } from 'node:module'; const require = r(import.meta.url)`,
    },
    alias: {
      '@opentelemetry/api': library('@opentelemetry/api'),
      '@opentelemetry/sdk-trace-node': library('otel-2-sdk-trace-node'),
      'vmclock/opentelemetry': join(rootDirectory, 'dist/opentelemetry.cjs'),
    },
    external: ['vmclock'],
  })
}
