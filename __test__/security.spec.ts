// What SECURITY.md says of whom this package trusts: who can tell it the time, what other users can do to a
// reader and to a publisher, and what is kept closed.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lchownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import { VmClock, VmClockError, VmClockPublisher } from 'vmclock'
import { VmClockPage } from 'vmclock/testing'
import { evaluate, inOwnMounts, isEmulated, start } from './node-command'
import { contents, liveFields, newDirectory, newPath, open, page, refuses } from './pages'

const isRoot = process.getuid?.() === 0

/** Another user, who is nobody in particular. */
const OTHER = 65534

/** Becomes the other user. */
const AS_OTHER = `process.setgroups([]); process.setgid(${OTHER}); process.setuid(${OTHER});`

/** How often a name is taken from one file and given to another while it is opened. */
const RACES = isEmulated ? 300 : 15_000

/** C0, C1, directions, and what hides text. */
const UNSAFE = /[^\P{C}\n]|[\u2028\u2029]/u

/** Whether a second user can be had. */
function hasOther(t: ExecutionContext): boolean {
  if (isRoot) return true
  t.log('not shown: only root can become another user')
  t.pass()
  return false
}

/** A folder that everybody may write and in which nobody may remove what is another's, as /tmp. */
function sticky(t: ExecutionContext): string {
  const made = join(newDirectory(t), 'sticky')
  chmodSync(dirname(made), 0o755)
  mkdirSync(made)
  chmodSync(made, 0o1777)
  return made
}

/** What a script gives that the other user runs. */
function asOther<Value>(script: string, ...words: readonly string[]): Promise<Value> {
  const given = JSON.stringify(words)
  // What is needed of the disk is read before.
  return evaluate<Value>(`
    const { VmClock, VmClockPublisher } = require('vmclock')
    const { VmClockPage } = require('vmclock/testing')
    const fs = require('node:fs')
    const given = ${given}
    VmClock.isSupported()
    ${AS_OTHER}
    const tried = (call) => {
      try { call(); return 'done' } catch (error) { return error.code }
    }
    ${script}`)
}

// What is kept closed

test('a page is mapped to be read, shared, and nothing else of it is kept', (t) => {
  // A copy, because its writer has a page mapped as well.
  const copy = newPath(t)
  copyFileSync(page(t, liveFields(t)).path, copy)
  open(t, copy).nowNs()
  const mappings = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(copy))
  t.is(mappings.length, 1)
  t.regex(mappings[0] ?? '', /^\S+ r--s /)
})

test('a process that is started holds nothing of clocks, watchers and publishers', async (t) => {
  const path = newPath(t)
  const held = await evaluate<{ own: string[]; flags: string[]; childs: string[]; maps: string }>(`
    const { VmClock, VmClockPublisher } = require('vmclock')
    const fs = require('node:fs')
    const { spawnSync } = require('node:child_process')
    const before = new Set(fs.readdirSync('/proc/self/fd'))
    const path = ${JSON.stringify(path)}
    const publisher = VmClockPublisher.create(path, { shape: 'time', allowUntrustedCounter: true })
    const clock = VmClock.open(path)
    const watcher = clock.watch()
    clock.nowNs()
    const told = (number) => {
      try { return fs.readlinkSync('/proc/self/fd/' + number) } catch { return undefined }
    }
    // The listing's own descriptor is gone by then.
    const own = fs.readdirSync('/proc/self/fd')
      .filter((number) => !before.has(number) && told(number) !== undefined)
    const flags = own.map((number) =>
      /^flags:\\s*(\\d+)$/m.exec(fs.readFileSync('/proc/self/fdinfo/' + number, 'utf8'))[1])
    const { stdout } = spawnSync('/bin/sh', ['-c',
      'for fd in /proc/self/fd/*; do readlink "$fd"; done; echo maps; cat /proc/self/maps'],
      { encoding: 'utf8' })
    const [links, maps] = stdout.split('maps\\n')
    console.log(JSON.stringify({
      own: own.map(told), flags, childs: links.trim().split('\\n'), maps }))
    watcher.close(); clock.close(); publisher.close()`)
  // The lock, its folder, and what wakes the two threads: they are there to be inherited.
  t.true(held.own.length >= 4, held.own.join(' '))
  t.true(held.own.some((name) => name === `${path}.lock`))
  for (const [index, flags] of held.flags.entries()) {
    t.true((Number.parseInt(flags, 8) & 0o2000000) !== 0, held.own[index])
  }
  const inherited = held.childs.filter(
    (name) => name.startsWith(dirname(path)) || /eventfd|timerfd/.test(name),
  )
  t.deepEqual(inherited, [])
  t.false(held.maps.includes(dirname(path)))
})

// Who may tell the time

test('another user’s page is refused wherever it is, and by whatever name', (t) => {
  if (!hasOther(t)) return
  const made = sticky(t)
  const theirs = join(made, 'page')
  VmClockPage.create(theirs, liveFields(t)).close()
  chownSync(theirs, OTHER, OTHER)
  const [link, hard] = [join(newDirectory(t), 'link'), join(newDirectory(t), 'hard')]
  symlinkSync(theirs, link)
  linkSync(theirs, hard)
  for (const path of [theirs, link, hard]) {
    refuses(t, () => VmClock.open(path), 'ERR_VMCLOCK_UNTRUSTED', /belongs to user 65534/)
    t.notThrows(() => open(t, path, { trustedUids: [OTHER] }))
  }
})

test('whoever made the link, the file that it leads to counts', (t) => {
  if (!hasOther(t)) return
  const { path } = page(t, { ...liveFields(t), disruptionMarker: 5n })
  const made = sticky(t)
  for (const link of ['theirs', 'ours']) symlinkSync(path, join(made, link))
  // A link has an owner of its own, which says nothing of the time.
  lchownSync(join(made, 'theirs'), OTHER, OTHER)
  for (const link of ['theirs', 'ours']) {
    const clock = open(t, join(made, link))
    t.is(clock.continuityToken().disruptionMarker, 5n)
  }
})

test('a file of the system’s that is no page is refused', (t) => {
  for (const [path, code] of [
    ['/proc/self/status', 'ERR_VMCLOCK_TOO_SMALL'],
    ['/proc/version', 'ERR_VMCLOCK_TOO_SMALL'],
    ['/proc/self/mem', 'ERR_VMCLOCK_TOO_SMALL'],
    ['/sys/kernel/mm/transparent_hugepage/enabled', 'ERR_VMCLOCK_UNTRUSTED'],
    ['/dev/zero', 'ERR_VMCLOCK_BAD_MAGIC'],
    ['/dev/full', 'ERR_VMCLOCK_UNTRUSTED'],
    ['/proc/self/fd/0', undefined],
  ] as const) {
    if (!existsSync(path)) continue
    const error = t.throws(() => VmClock.open(path), { instanceOf: VmClockError }, path)
    if (code !== undefined) t.is(error?.code, code, `${path}: ${error?.message}`)
  }
})

test('what is checked is the file that was opened, whatever becomes of its name meanwhile', async (t) => {
  if (!hasOther(t)) return
  const made = newDirectory(t)
  const [trusted, theirs, path] = ['trusted', 'theirs', 'page'].map((name) => join(made, name))
  if (trusted === undefined || theirs === undefined || path === undefined)
    throw new Error('no path')
  const fields = liveFields(t)
  VmClockPage.create(trusted, { ...fields, disruptionMarker: 1n }).close()
  VmClockPage.create(theirs, { ...fields, disruptionMarker: 2n }).close()
  chownSync(theirs, OTHER, OTHER)
  linkSync(trusted, path)
  const stop = new Int32Array(new SharedArrayBuffer(8))
  const racing = new Worker(
    `const { linkSync, renameSync } = require('node:fs')
    const { trusted, theirs, path, stop } = require('node:worker_threads').workerData
    for (let turn = 0; Atomics.load(stop, 0) === 0; turn++) {
      linkSync(turn % 2 === 0 ? theirs : trusted, path + '.next')
      renameSync(path + '.next', path)
      Atomics.store(stop, 1, turn)
      Atomics.notify(stop, 1)
    }`,
    { eval: true, workerData: { trusted, theirs, path, stop } },
  )
  const ended = once(racing, 'exit')
  const seen = { opened: 0, refused: 0 }
  // Until it was met by both its names often enough, while they changed.
  while (Math.min(seen.opened, seen.refused, stop[1] ?? 0) < RACES) {
    try {
      const clock = VmClock.open(path)
      const { disruptionMarker } = clock.continuityToken()
      clock.close()
      if (disruptionMarker !== 1n) {
        t.fail(`read the page of user ${OTHER} after ${JSON.stringify(seen)}`)
        break
      }
      seen.opened += 1
    } catch (error) {
      if (!VmClockError.isVmClockError(error) || error.code !== 'ERR_VMCLOCK_UNTRUSTED') throw error
      seen.refused += 1
    }
  }
  Atomics.store(stop, 0, 1)
  await ended
  t.log(JSON.stringify({ ...seen, renames: stop[1] }))
  t.pass()
})

// What another user can do to a publisher

test('another user can read what is published, and neither write, take over nor end it', async (t) => {
  if (!hasOther(t)) return
  const path = newPath(t)
  chmodSync(dirname(path), 0o755)
  const publisher = VmClockPublisher.create(path, { allowUntrustedCounter: true })
  t.teardown(() => publisher.close())
  const told = await asOther<Record<string, string | boolean>>(
    `const [path] = given
    const clock = VmClock.open(path)
    console.log(JSON.stringify({
      reads: clock.nowNs() > 0n,
      writes: tried(() => VmClockPage.open(path)),
      opens: tried(() => fs.openSync(path, 'r+')),
      truncates: tried(() => fs.truncateSync(path)),
      removes: tried(() => fs.unlinkSync(path)),
      replaces: tried(() => fs.renameSync(path, path + '.old')),
      locks: tried(() => fs.openSync(path + '.lock', 'r')),
      unlocks: tried(() => fs.unlinkSync(path + '.lock')),
      publishes: tried(() => VmClockPublisher.create(path, { allowUntrustedCounter: true })),
    }))`,
    path,
  )
  const { reads, ...refused } = told
  t.true(reads)
  t.deepEqual(refused, {
    writes: 'ERR_VMCLOCK_ACCESS',
    opens: 'EACCES',
    truncates: 'EACCES',
    removes: 'EACCES',
    replaces: 'EACCES',
    locks: 'EACCES',
    unlocks: 'EACCES',
    publishes: 'ERR_VMCLOCK_ACCESS',
  })
  publisher.disrupt()
  t.is(publisher.failure, undefined)
})

test('another user who locks the page keeps nobody from publishing it', async (t) => {
  if (!hasOther(t)) return
  const path = newPath(t)
  chmodSync(dirname(path), 0o755)
  VmClockPublisher.create(path, { allowUntrustedCounter: true }).close()
  const words = ['--reuid', `${OTHER}`, '--clear-groups', 'flock', '--exclusive', path]
  const holding = spawn('setpriv', [...words, 'sh', '-c', 'echo held; read end'])
  t.teardown(() => holding.kill('SIGKILL'))
  await once(holding.stdout, 'data')
  const publisher = VmClockPublisher.create(path, { allowUntrustedCounter: true })
  t.true(open(t, path).nowNs() > 0n)
  publisher.close()
  holding.stdin.end()
})

test('in a folder of everybody’s another user can take the name first, and no more than that', async (t) => {
  if (!hasOther(t)) return
  const made = sticky(t)
  const precious = join(made, 'precious')
  writeFileSync(precious, 'precious')
  const taken = await asOther<string[]>(
    `const [made, precious] = given
    const { spawnSync } = require('node:child_process')
    const at = (name) => made + '/' + name
    VmClockPage.create(at('page'), {}).close()
    fs.writeFileSync(at('held.lock'), '')
    spawnSync('mkfifo', [at('pipe.lock')])
    spawnSync('mkfifo', [at('pipe')])
    fs.symlinkSync(precious, at('link.lock'))
    fs.symlinkSync(precious, at('link'))
    fs.mkdirSync(at('folder'))
    console.log(JSON.stringify(fs.readdirSync(made).sort()))`,
    made,
    precious,
  )
  t.is(taken.length, 8)
  for (const name of ['page', 'held', 'pipe', 'link', 'folder']) {
    const call = (): VmClockPublisher =>
      VmClockPublisher.create(join(made, name), { allowUntrustedCounter: true })
    const error = t.throws(call, { instanceOf: VmClockError }, name)
    // At once, by what it is, or by the kernel where it protects such folders.
    const codes = ['ERR_VMCLOCK_UNTRUSTED', 'ERR_VMCLOCK_ACCESS', 'ERR_VMCLOCK_SYSTEM']
    t.true(codes.includes(error?.code ?? ''), `${name}: ${error?.code}`)
  }
  t.is(readFileSync(precious, 'utf8'), 'precious')
  t.is(statSync(precious).uid, 0)
  t.deepEqual(contents(made), taken)
})

test('another user’s page is not taken over where its folder lets it stand', (t) => {
  if (!hasOther(t)) return
  const made = sticky(t)
  const path = join(made, 'page')
  VmClockPage.create(path, { disruptionMarker: 9n }).close()
  chownSync(path, OTHER, OTHER)
  const before = readFileSync(path)
  const call = (): VmClockPublisher =>
    VmClockPublisher.create(path, { allowUntrustedCounter: true })
  refuses(t, call, 'ERR_VMCLOCK_UNTRUSTED', /belongs to user 65534 publish to a path of your own/)
  t.deepEqual(readFileSync(path), before)
})

// What a terminal is shown

test('what the environment says reaches a terminal only as words', async (t) => {
  const evil = `${newPath(t)}\u001b]0;x\u0007\u009b31m\u202e\u2066\u200b\u{e0041}\u007f`
  for (const command of ['status', 'now', 'watch', 'doctor', 'ptp']) {
    for (const options of [[], ['--json']]) {
      const env = { VMCLOCK_PATH: evil, TERM: evil, USER: evil }
      const running = start(['dist/cli.cjs', command, ...options], { env })
      t.teardown(() => running.child.kill('SIGKILL'))
      running.child.stdin.end()
      const { stdout, stderr } = await running.outcome
      t.notRegex(stdout + stderr, UNSAFE, command)
      if (command !== 'ptp') t.true((stdout + stderr).includes('202e'), command)
    }
  }
  const env = { VMCLOCK_ADDON: evil }
  const running = start(['dist/cli.cjs', 'now'], { env })
  running.child.stdin.end()
  const { stderr } = await running.outcome
  t.notRegex(stderr, UNSAFE)
  t.regex(stderr, /VMCLOCK_ADDON names .*\\u\{202e\}/)
})

test('a PTP clock’s name reaches a terminal only as words', async (t) => {
  // As bytes for printf, because sysfs is none of Node's to write.
  const evil = '\\033]0;x\\007\\302\\2332J\\342\\200\\256'
  const by = inOwnMounts(
    t,
    `mount -t tmpfs none /sys && mkdir -p /sys/class/ptp/ptp7
    printf '${evil}' > /sys/class/ptp/ptp7/clock_name`,
  )
  if (by === undefined) return
  for (const options of [[], ['--json']]) {
    const running = start(['dist/cli.cjs', 'ptp', 'another', ...options], { by })
    running.child.stdin.end()
    const { stdout, stderr } = await running.outcome
    t.regex(stdout + stderr, /202e/)
    t.notRegex(stdout + stderr, UNSAFE)
  }
})
