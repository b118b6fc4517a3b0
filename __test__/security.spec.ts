// The claims of SECURITY.md: only trusted users can give the time, other users cannot harm a reader or a
// publisher, and no file stays open.

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

/** The number of another user: `nobody`. */
const OTHER = 65534

/** Becomes the other user. */
const AS_OTHER = `process.setgroups([]); process.setgid(${OTHER}); process.setuid(${OTHER});`

/** The number of times that a name changes its file while the page is opened by that name. */
const RACES = isEmulated ? 300 : 15_000

/** C0 and C1 control characters, direction marks, and characters that hide text. */
const UNSAFE = /[^\P{C}\n]|[\u2028\u2029]/u

/** Returns true if this process can become another user. */
function hasOther(t: ExecutionContext): boolean {
  if (isRoot) return true
  t.log('not shown: only root can become another user')
  t.pass()
  return false
}

/** Makes a directory like /tmp: everybody may write in it, and nobody may remove files of others. */
function sticky(t: ExecutionContext): string {
  const made = join(newDirectory(t), 'sticky')
  chmodSync(dirname(made), 0o755)
  mkdirSync(made)
  chmodSync(made, 0o1777)
  return made
}

/** Runs a script as the other user, and returns what it prints. */
function asOther<Value>(script: string, ...words: readonly string[]): Promise<Value> {
  const given = JSON.stringify(words)
  // The script reads the files that it needs before it becomes the other user.
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

// Open files

test('a page is mapped shared and read-only, and its file is closed', (t) => {
  // A copy, because the writer of the original has a mapping too.
  const copy = newPath(t)
  copyFileSync(page(t, liveFields(t)).path, copy)
  open(t, copy).nowNs()
  const mappings = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(copy))
  t.is(mappings.length, 1)
  t.regex(mappings[0] ?? '', /^\S+ r--s /)
})

test('a child process inherits nothing of clocks, watchers and publishers', async (t) => {
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
    const linkOf = (number) => {
      try { return fs.readlinkSync('/proc/self/fd/' + number) } catch { return undefined }
    }
    // The directory listing's own descriptor is closed by now.
    const own = fs.readdirSync('/proc/self/fd')
      .filter((number) => !before.has(number) && linkOf(number) !== undefined)
    const flags = own.map((number) =>
      /^flags:\\s*(\\d+)$/m.exec(fs.readFileSync('/proc/self/fdinfo/' + number, 'utf8'))[1])
    const { stdout } = spawnSync('/bin/sh', ['-c',
      'for fd in /proc/self/fd/*; do readlink "$fd"; done; echo maps; cat /proc/self/maps'],
      { encoding: 'utf8' })
    const [links, maps] = stdout.split('maps\\n')
    console.log(JSON.stringify({
      own: own.map(linkOf), flags, childs: links.trim().split('\\n'), maps }))
    watcher.close(); clock.close(); publisher.close()`)
  // The lock, its directory, and the descriptors that wake the two threads.
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

// Users who may give the time

test('another user’s page is refused at every place and by every name', (t) => {
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

test('the owner of the file counts, not the owner of a link to it', (t) => {
  if (!hasOther(t)) return
  const { path } = page(t, { ...liveFields(t), disruptionMarker: 5n })
  const made = sticky(t)
  for (const link of ['theirs', 'ours']) symlinkSync(path, join(made, link))
  // The owner of a link is not the owner of the file.
  lchownSync(join(made, 'theirs'), OTHER, OTHER)
  for (const link of ['theirs', 'ours']) {
    const clock = open(t, join(made, link))
    t.is(clock.continuityToken().disruptionMarker, 5n)
  }
})

test('files of the system that are no pages are refused', (t) => {
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

test('the checks apply to the open file, not to its name', async (t) => {
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
  // Repeats until both files were met often enough while the name changed.
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

// Other users and a publisher

test('another user can read a published page, but not write, take over or end it', async (t) => {
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

test('another user’s lock on the page does not prevent publishing', async (t) => {
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

test('in a shared directory another user can only take the name first', async (t) => {
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
    fs.mkdirSync(at('directory'))
    console.log(JSON.stringify(fs.readdirSync(made).sort()))`,
    made,
    precious,
  )
  t.is(taken.length, 8)
  for (const name of ['page', 'held', 'pipe', 'link', 'directory']) {
    const call = (): VmClockPublisher =>
      VmClockPublisher.create(join(made, name), { allowUntrustedCounter: true })
    const error = t.throws(call, { instanceOf: VmClockError }, name)
    // Refused at once, by the file's kind or owner, or by the kernel if it protects such directories.
    const codes = ['ERR_VMCLOCK_UNTRUSTED', 'ERR_VMCLOCK_ACCESS', 'ERR_VMCLOCK_SYSTEM']
    t.true(codes.includes(error?.code ?? ''), `${name}: ${error?.code}`)
  }
  t.is(readFileSync(precious, 'utf8'), 'precious')
  t.is(statSync(precious).uid, 0)
  t.deepEqual(contents(made), taken)
})

test('another user’s page in a shared directory is not taken over', (t) => {
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

// Text on a terminal

test('text from the environment reaches a terminal only as printable text', async (t) => {
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

test('a PTP clock’s name reaches a terminal only as printable text', async (t) => {
  // Octal escapes for printf in the shell.
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
