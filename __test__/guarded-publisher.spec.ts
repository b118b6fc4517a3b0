// A publisher follows the machine's own vmclock device. A page at /dev/vmclock0 in mounts of its own is the device.

import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { VmClock } from 'vmclock'
import { commandLine, inOwnMounts, type Running, start } from './node-command'
import { newPath, open, page } from './pages'

const WORDS = ['--json', '--allow-untrusted-counter', '--interval', '100ms']

/** Starts a publisher in its own mounts, and returns it with its first line. */
async function publish(
  t: ExecutionContext,
  by: readonly string[],
  path: string,
  words: readonly string[],
): Promise<[Running, Record<string, unknown>]> {
  const running = start([commandLine, 'publish', path, ...WORDS, ...words], { by })
  t.teardown(() => running.child.kill('SIGKILL'))
  return [running, JSON.parse(await running.line())]
}

function markerOf(clock: VmClock): bigint {
  return clock.snapshot().raw.disruptionMarker ?? 0n
}

/** Waits until a page shows another marker, and returns it. */
async function nextMarker(clock: VmClock, before: bigint): Promise<bigint> {
  while (markerOf(clock) === before) await delay(5)
  return markerOf(clock)
}

test('the page’s marker moves by what the device’s moves by, also without a publisher', async (t) => {
  const device = page(t, { disruptionMarker: 7n })
  const path = newPath(t)
  const by = inOwnMounts(
    t,
    `device='${device.path}'
    mount -t tmpfs none /dev && : > /dev/vmclock0 && mount --bind "$device" /dev/vmclock0`,
  )
  if (by === undefined) return
  const [first] = await publish(t, by, path, ['--max-error', '5ms'])
  const clock = open(t, path)
  const before = markerOf(clock)
  device.write({ disruptionMarker: 12n })
  t.is(await nextMarker(clock, before), before + 5n)
  // Until the counter's rate is measured again the page has no time.
  while (clock.snapshot().clockStatus === 'initializing') await delay(5)
  t.is(clock.snapshot().boundUnavailable?.reason, 'stated-error-voided')
  first.child.kill('SIGKILL')
  await first.outcome
  device.write({ disruptionMarker: 15n })
  const [, published] = await publish(t, by, path, ['--max-error', '5ms'])
  t.is(markerOf(clock), before + 8n)
  t.like(published, { boundUnavailable: { reason: 'stated-error-voided' } })
  t.false('guardUnavailable' in published)
})

test('a publisher that cannot look at the device says why in its first line', async (t) => {
  const by = inOwnMounts(t, 'mount -t tmpfs none /dev && echo no page > /dev/vmclock0')
  if (by === undefined) return
  const words = ['--max-error', '5ms']
  const [refused, line] = await publish(t, by, newPath(t), words)
  t.like(line, {
    event: 'published',
    guardUnavailable: { path: '/dev/vmclock0' },
    boundUnavailable: { reason: 'unguarded' },
  })
  refused.child.kill('SIGKILL')
  const [, allowed] = await publish(t, by, newPath(t), [...words, '--allow-unguarded'])
  t.true('guardUnavailable' in allowed)
  t.false('boundUnavailable' in allowed)
})
