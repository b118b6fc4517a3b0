// A process without /sys, in a container, without descriptors or without native addons still reads a page that it
// can reach. Otherwise opening names the obstacle.

import { dirname, join } from 'node:path'
import test from 'ava'
import { VmClockPublisher } from 'vmclock'
import { evaluate, inOwnMounts, run, start } from './node-command'
import { liveFields, newDirectory, newPath, page } from './pages'

/** Opens the default page, or the page at a path, and prints the result. */
const OPEN = `
  const { VmClock } = require('vmclock')
  const print = (value) => console.log(JSON.stringify(value))
  try {
    const clock = VmClock.open(process.argv[1])
    print([clock.path, clock.nowNs() > 0n, clock.isContinuous(clock.continuityToken())])
  } catch ({ name, code, remedy, path }) { print({ name, code, remedy, path }) }`

test('without /sys a page can be read, and the doctor answers', async (t) => {
  const { path } = page(t, liveFields(t))
  const by = inOwnMounts(t, 'mount -t tmpfs none /sys && [ -z "$(ls /sys)" ]')
  if (by === undefined) return
  t.deepEqual(await evaluate(OPEN, [], { by, env: { VMCLOCK_PATH: path } }), [path, true, true])
  const { stdout, stderr } = await run(['dist/cli.cjs', 'doctor', '--json', path], { by })
  t.is(stderr, '')
  t.notThrows(() => JSON.parse(stdout))
})

test('without /sys a page of this process claims no bound, for nobody looks for the device', async (t) => {
  const by = inOwnMounts(t, 'mount -t tmpfs none /sys')
  if (by === undefined) return
  const guard = `
    const { VmClock } = require('vmclock')
    const clock = VmClock.open({ source: 'process', allowUntrustedCounter: true })
    const { state } = clock.timeSource.guard
    console.log(JSON.stringify([state, clock.read().maxErrorNs ?? null]))`
  const unguarded = ['unavailable', null]
  t.deepEqual(await evaluate(guard, [], { by }), unguarded)
})

test('a file system that is read-only is told from a missing right', async (t) => {
  const by = inOwnMounts(t, 'mount -t tmpfs -o ro none /mnt')
  if (by === undefined) return
  const { exitCode, stderr } = await run(['dist/cli.cjs', 'publish', '/mnt/page'], { by })
  t.is(exitCode, 1)
  t.regex(stderr, /^error: {2}\/mnt\/page: the file system is read-only: /)
  t.regex(stderr, /ERR_VMCLOCK_ACCESS/)
})

// A container's /dev is a tmpfs in its own mounts, with bind mounts of the devices that were passed to it. The
// guests have the driver's own device.
const EMPTY_DEV = `mount -t tmpfs none /run
  mkdir /run/null && : > /run/null/null && mount --bind /dev/null /run/null/null
  mount -t tmpfs none /dev && : > /dev/null && mount --bind /run/null/null /dev/null`

test('in a container without a page open makes one', async (t) => {
  const by = inOwnMounts(t, EMPTY_DEV)
  if (by === undefined) return
  t.deepEqual(await evaluate(OPEN, [], { by }), [null, true, true])
})

test('in a container that got the published page open finds it by default', async (t) => {
  const path = newPath(t)
  const publisher = VmClockPublisher.create(path, { allowUntrustedCounter: true })
  t.teardown(() => publisher.close())
  const setUp = `page='${path}'
    ${EMPTY_DEV}
    mkdir /run/vmclock && : > /run/vmclock/page && mount --bind "$page" /run/vmclock/page`
  const by = inOwnMounts(t, setUp)
  if (by === undefined) return
  t.deepEqual(await evaluate(OPEN, [], { by }), ['/run/vmclock/page', true, true])
})

for (const keepOnExit of [true, false]) {
  const stopped = keepOnExit ? 'the page as it is' : 'an unreliable page'
  test(`a container that mounts the directory reads on after its publisher left ${stopped}`, async (t) => {
    const path = join(newDirectory(t), 'page')
    const publish = () =>
      VmClockPublisher.create(path, {
        keepOnExit,
        maxErrorNs: 5_000_000n,
        allowUntrustedCounter: true,
      })
    const setUp = `directory='${dirname(path)}'
      ${EMPTY_DEV}
      mkdir /run/vmclock && mount --bind "$directory" /run/vmclock`
    const by = inOwnMounts(t, setUp)
    if (by === undefined) return
    let publisher = publish()
    t.teardown(() => publisher.close())
    // It reads whenever it gets a line, by the clock of before and by a new one.
    const reader = start(
      [
        '-e',
        `const { VmClock } = require('vmclock')
        const clock = VmClock.open()
        const token = clock.continuityToken()
        const codeOf = (read) => { try { read(); return 'time' } catch ({ code }) { return code } }
        const look = () => console.log(JSON.stringify([
          clock.path, codeOf(() => clock.read()), VmClock.open().timeSource.kind, clock.isContinuous(token)]))
        process.stdin.on('data', look)
        look()`,
      ],
      { by },
    )
    t.teardown(() => reader.child.kill('SIGKILL'))
    const look = async () => JSON.parse(await reader.line())
    const asBefore = ['/run/vmclock/page', 'time', 'published', true]
    t.deepEqual(await look(), asBefore)
    publisher.close()
    reader.child.stdin.write('\n')
    t.deepEqual(
      await look(),
      keepOnExit ? asBefore : [asBefore[0], 'ERR_VMCLOCK_UNSYNCHRONIZED', 'process', true],
    )
    publisher = publish()
    reader.child.stdin.write('\n')
    t.deepEqual(await look(), asBefore)
    reader.child.stdin.end()
    t.is((await reader.outcome).exitCode, 0)
  })
}

test('without free descriptors open, watch and publish fail, and open clocks go on', async (t) => {
  const { path } = page(t, liveFields(t))
  const result = await evaluate<unknown[]>(
    `const { VmClock, VmClockPublisher } = require('vmclock')
    const { openSync, closeSync } = require('node:fs')
    const path = ${JSON.stringify(path)}
    const clock = VmClock.open(path)
    const taken = []
    try { for (;;) taken.push(openSync('/dev/null')) } catch {}
    const refusals = [
      () => VmClock.open(path),
      () => clock.watch(),
      () => VmClockPublisher.create(path + '.other', { allowUntrustedCounter: true }),
    ].map((call) => {
      try { call() } catch ({ code, errno }) { return [code, errno] }
    })
    const goesOn = clock.nowNs() > 0n
    for (const number of taken) closeSync(number)
    clock.watch().close()
    VmClock.open(path).close()
    console.log(JSON.stringify([refusals, goesOn]))`,
    [],
    { by: ['sh', '-c', 'ulimit -n 128; exec "$@"', 'sh'] },
  )
  // EMFILE
  const refused = ['ERR_VMCLOCK_SYSTEM', 24]
  t.deepEqual(result, [[refused, refused, refused], true])
})

test('under the permission model without addons open names the missing option', async (t) => {
  const flag = ['--permission', '--experimental-permission'].find((name) =>
    process.allowedNodeEnvironmentFlags.has(name),
  )
  if (flag === undefined) {
    t.log(`not shown: Node ${process.version} has no permission model`)
    t.pass()
    return
  }
  const { path } = page(t, liveFields(t))
  const words = [flag, '--allow-fs-read=*', '--no-warnings']
  const env = { VMCLOCK_PATH: path }
  const result = await evaluate<{ name: string; code: string; remedy: string }>(OPEN, words, {
    env,
  })
  t.is(result.name, 'VmClockError')
  t.is(result.code, 'ERR_VMCLOCK_NATIVE')
  t.regex(result.remedy, /--allow-addons/)
})
