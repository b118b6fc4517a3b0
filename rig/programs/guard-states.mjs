// Checks the states of a published page's guard in a guest with a device.
//
//   node guard-states.mjs states | publish | container | two

import assert from 'node:assert/strict'
import { copyFileSync, openSync, rmSync, writeSync } from 'node:fs'
import { VmClock, VmClockPublisher } from 'vmclock'

const PAGE = '/tmp/guard-states-page'
// Outside /tmp, so that a container shares it.
const SHARED_PAGE = '/guard-states-page'
const MOST_MS = 10_000
const GUEST = 1000
// The offsets of `magic` and `boot_id` in the page's extension.
const MAGIC_AT = 0x800
const BOOT_ID_AT = 0x810

const publish = (path, options = {}) =>
  VmClockPublisher.create(path, {
    allowUntrustedCounter: true,
    maxErrorNs: 10_000_000_000n,
    ...options,
  })

const [part] = process.argv.slice(2)
const parts = { states, publish: left, container, two }
await parts[part]()

async function states() {
  const publisher = publish(PAGE)
  const clock = VmClock.open(PAGE)
  assert.deepEqual(
    [clock.timeSource.guard.state, clock.timeSource.guard.path],
    ['guarded', '/dev/vmclock0'],
  )
  assert.ok(clock.read().maxErrorNs !== undefined)

  // The page as another boot left it, and as an older release wrote it.
  const changed = (at) => {
    const path = `${PAGE}-${at}`
    copyFileSync(PAGE, path)
    const file = openSync(path, 'r+')
    writeSync(file, Buffer.from([0xff]), 0, 1, at)
    return VmClock.open(path)
  }
  const otherBoot = changed(BOOT_ID_AT)
  for (const call of ['nowNs', 'read', 'continuityToken']) {
    assert.throws(() => otherBoot[call](), { code: 'ERR_VMCLOCK_OTHER_BOOT' })
  }
  console.log(`another boot: ${otherBoot.tryRead().message}`)
  const older = changed(MAGIC_AT)
  assert.equal(older.timeSource.guard.state, 'unavailable')
  assert.equal(older.read().maxErrorNs, undefined)
  assert.equal(older.snapshot().boundUnavailable.reason, 'unguarded')
  console.log(`an older release: ${older.timeSource.guard.reason}`)

  // A device that is stuck in an update costs one deadline, and then the time has no bound at once.
  console.log('begin the update')
  await until(() => clock.read().maxErrorNs === undefined)
  assert.equal(clock.snapshot().boundUnavailable.reason, 'device-stuck')
  assert.throws(() => clock.continuityToken(), { code: 'ERR_VMCLOCK_TIMEOUT' })
  // A reading that waited would take 100 ms each.
  const startMs = performance.now()
  for (let count = 0; count < 1000; count++) clock.read()
  assert.ok(performance.now() - startMs < 50_000)
  console.log('end the update')
  await until(() => clock.read().maxErrorNs !== undefined)
  clock.continuityToken()

  // A user who may not read the device.
  process.setgroups([])
  process.setgid(GUEST)
  process.seteuid(GUEST)
  const unguarded = VmClock.open(PAGE)
  const { state, reason, remedy } = unguarded.timeSource.guard
  assert.equal(state, 'unavailable')
  assert.match(reason, /permission denied/)
  assert.match(remedy, /udev rule/)
  const reading = unguarded.tryRead()
  assert.equal(reading.maxErrorNs, undefined)
  assert.ok(reading.epochNs > 0n)
  assert.equal(unguarded.snapshot().boundUnavailable.reason, 'unguarded')
  const allowed = VmClock.open(PAGE, { allowUnguarded: true })
  assert.ok(allowed.read().maxErrorNs !== undefined)
  console.log(`a user without access: ${reason}`)
  process.seteuid(0)
  for (const one of [clock, otherBoot, older, unguarded, allowed]) one.close()
  publisher.close()
}

function left() {
  publish(SHARED_PAGE, { keepOnExit: true }).close()
}

function container() {
  const clock = VmClock.open(SHARED_PAGE)
  const { state, reason } = clock.timeSource.guard
  assert.equal(state, 'unavailable')
  assert.equal(clock.read().maxErrorNs, undefined)
  const allowed = VmClock.open(SHARED_PAGE, { allowUnguarded: true })
  assert.ok(allowed.read().maxErrorNs !== undefined)
  // Also a page of its own: it must not be taken for one of a machine without a device.
  const own = VmClock.open({ source: 'process', allowUntrustedCounter: true })
  assert.equal(own.timeSource.guard.state, 'unavailable')
  console.log(reason)
  for (const one of [clock, allowed, own]) one.close()
  rmSync(SHARED_PAGE)
}

async function two() {
  const publisher = publish(PAGE)
  const clock = VmClock.open(PAGE)
  const { path } = clock.timeSource.guard
  assert.equal(path, '/dev/vmclock0')
  const devices = ['/dev/vmclock0', '/dev/vmclock1'].map((device) => VmClock.open(device))
  const tokens = devices.map((device) => device.continuityToken())
  const token = clock.continuityToken()
  console.log('change the marker')
  await until(() => !devices.every((device, at) => device.isContinuous(tokens[at])))
  const isGuard = !devices[0].isContinuous(tokens[0])
  assert.equal(clock.isContinuous(token), !isGuard)
  for (const one of [clock, ...devices]) one.close()
  publisher.close()
  console.log(`the changed device ${isGuard ? 'guards the page' : 'does not guard the page'}`)
}

/** Looks until it is so, which the host brings about. */
async function until(isSo) {
  const endMs = performance.now() + MOST_MS
  while (!isSo()) {
    assert.ok(performance.now() < endMs)
    await new Promise((resolve) => setImmediate(resolve))
  }
}
