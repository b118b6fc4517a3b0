// `vmclock metrics`: once, in a file that is always whole, or served on loopback.

import { spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { request } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { listenAddress } from '../ts/cli/metrics-server'
import { commandLine, nodeCommand, type Running, run, start } from './node-command'
import { liveFields, newDirectory, newPath, page } from './pages'

const vmclock = (...words: string[]) => run([commandLine, 'metrics', ...words])

function starts(t: ExecutionContext, ...words: string[]): Running {
  const running = start([commandLine, 'metrics', ...words, '--json'])
  t.teardown(() => running.child.kill('SIGKILL'))
  return running
}

async function urlOf(running: Running): Promise<string> {
  const { event, url } = JSON.parse(await running.line()) as { event: string; url: string }
  if (event !== 'listening') throw new Error(event)
  return url
}

interface Answer {
  readonly status: number | undefined
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

function ask(url: string, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request(url, { method }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text
      })
      response.on('end', () =>
        resolve({ status: response.statusCode, headers: response.headers, body }),
      )
    })
      .on('error', reject)
      .end()
  })
}

test('prints the metrics of a page once, and those of a page that is not there', async (t) => {
  const { path } = page(t, liveFields(t))
  for (const [words, up] of [
    [[path], 1],
    [[newPath(t)], 0],
  ] as const) {
    const { exitCode, stdout, stderr } = await vmclock(...words)
    t.is(exitCode, 0, stderr)
    t.is(stderr, '')
    t.true(stdout.startsWith(`# HELP vmclock_up `))
    t.true(stdout.includes(`\nvmclock_up ${up}\n`))
    t.regex(stdout, /[^\n]\n$/)
  }
})

test('--file writes the file as a whole, for every reader, and nothing beside it', async (t) => {
  const directory = newDirectory(t)
  const file = join(directory, 'vmclock.prom')
  writeFileSync(file, 'old')
  const { ino } = statSync(file)
  const { exitCode, stdout, stderr } = await vmclock(
    ...[page(t, liveFields(t)).path, '--file', file, '--json'],
  )
  t.is(exitCode, 0, stderr)
  t.deepEqual(JSON.parse(stdout), { event: 'written', file })
  t.true(readFileSync(file, 'utf8').includes('\nvmclock_up 1\n'))
  t.not(statSync(file).ino, ino)
  t.is(statSync(file).mode & 0o777, 0o666 & ~process.umask() & 0o644)
  t.deepEqual(readdirSync(directory), ['vmclock.prom'])
})

test('--interval writes the file again, and removes it at the end', async (t) => {
  const file = join(newDirectory(t), 'vmclock.prom')
  const made = page(t, liveFields(t))
  const running = starts(t, made.path, '--file', file, '--interval', '1s')
  t.deepEqual(JSON.parse(await running.line()), { event: 'writing', file })
  t.true(readFileSync(file, 'utf8').includes('vmclock_disruptions_total 0'))
  made.write({ disruptionMarker: 77n })
  await until(() => readFileSync(file, 'utf8').includes('vmclock_disruptions_total 1'))
  running.child.kill('SIGTERM')
  t.is((await running.outcome).exitCode, 0)
  t.false(existsSync(file))
})

test('a file that cannot be written any more is removed, and ends the command', async (t) => {
  const directory = newDirectory(t)
  const file = join(directory, 'vmclock.prom')
  const running = starts(t, page(t, liveFields(t)).path, '--file', file, '--interval', '1s')
  await running.line()
  // In the place of the temporary file.
  const obstacle = join(directory, `.vmclock.prom.${running.child.pid}.unfinished`)
  mkdirSync(join(obstacle, 'full'), { recursive: true })
  const { exitCode, stderr } = await running.outcome
  t.is(exitCode, 1)
  t.regex(stderr, /"ERR_VMCLOCK_SYSTEM"/)
  t.false(existsSync(file))
})

test('--file refuses to take the place of what is no regular file', async (t) => {
  const directory = newDirectory(t)
  const [pipe, link] = [join(directory, 'pipe'), join(directory, 'link')]
  // Not a device of this machine: broken code would replace it.
  t.is(spawnSync('mkfifo', [pipe]).status, 0)
  symlinkSync(pipe, link)
  for (const file of [pipe, directory, link]) {
    const { exitCode, stderr } = await vmclock('--file', file)
    t.is(exitCode, 2)
    t.regex(stderr, /no regular file/)
    t.true(lstatSync(pipe).isFIFO())
  }
  const { exitCode, stderr } = await vmclock('--file', join(directory, 'none', 'file'), '--json')
  t.is(exitCode, 1)
  t.regex(stderr, /"ERR_VMCLOCK_SYSTEM"/)
})

test('serves the metrics at /metrics, and nothing elsewhere', async (t) => {
  const made = page(t, liveFields(t))
  const running = starts(t, made.path, '--listen', '0')
  const url = await urlOf(running)
  t.regex(url, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/)
  const answer = await ask(`${url}?name=any`)
  t.is(answer.status, 200)
  t.is(answer.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
  t.true(answer.body.includes('\nvmclock_up 1\n'))
  made.write({ disruptionMarker: 77n })
  t.true((await ask(url)).body.includes('\nvmclock_disruptions_total 1\n'))
  const head = await ask(url, 'HEAD')
  t.is(head.status, 200)
  t.is(head.body, '')
  const posted = await ask(url, 'POST')
  t.is(posted.status, 405)
  t.is(posted.headers['allow'], 'GET, HEAD')
  t.is((await ask(new URL('/', url).href)).status, 404)
  running.child.kill('SIGTERM')
  t.is((await running.outcome).exitCode, 0)
})

test('--listen ends on SIGTERM also while a client has sent half of a request', async (t) => {
  const running = starts(t, newPath(t), '--listen', '0')
  const url = await urlOf(running)
  const { hostname, port } = new URL(url)
  const client = connect(Number(port), hostname)
  client.on('error', () => {})
  await new Promise((resolve) => client.write('GET /metr', resolve))
  // The server accepts connections in their order.
  await ask(url)
  running.child.kill('SIGTERM')
  t.is((await running.outcome).exitCode, 0)
})

test('--listen shows a page that appears, and one that replaces it', async (t) => {
  const path = newPath(t)
  const running = starts(t, path, '--listen', '[::1]:0')
  const url = await urlOf(running)
  t.true((await ask(url)).body.includes('\nvmclock_up 0\n'))
  const fields = liveFields(t)
  const first = page(t, { ...fields, timeMaxerrorNanosec: 1_000_000_000n })
  renameSync(first.path, path)
  t.regex((await ask(url)).body, /^vmclock_max_error_seconds 1\.0/m)
  const second = page(t, { ...fields, timeMaxerrorNanosec: 2_000_000_000n, disruptionMarker: 5n })
  renameSync(second.path, path)
  let body = ''
  await until(async () => {
    ;({ body } = await ask(url))
    return /^vmclock_max_error_seconds 2\.0/m.test(body)
  })
  t.true(body.includes('\nvmclock_disruptions_total 0\n'))
})

test('goes on after its output was lost, and says once that it cannot be written', async (t) => {
  const { path } = page(t, liveFields(t))
  const full = openSync('/dev/full', 'w')
  t.teardown(() => closeSync(full))
  for (const [stdout, says] of [
    [full, /^[^\n]*"ERR_VMCLOCK_SYSTEM"[^\n]*\n$/],
    ['pipe', /^$/],
  ] as const) {
    const file = newPath(t)
    const words = ['metrics', path, '--json', '--file', file, '--interval', '1s']
    const [program, ...args] = nodeCommand(commandLine, ...words)
    const child = spawn(program, args, { stdio: ['ignore', stdout, 'pipe'] })
    t.teardown(() => child.kill('SIGKILL'))
    child.stdout?.destroy()
    let stderr = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    await until(() => existsSync(file))
    const { ino } = statSync(file)
    await until(() => statSync(file).ino !== ino)
    child.kill('SIGTERM')
    t.is(await new Promise((resolve) => child.once('close', resolve)), 0)
    t.regex(stderr, says)
    t.false(existsSync(file))
  }
})

test('--listen takes a port of loopback only', async (t) => {
  for (const address of [
    ...['0.0.0.0:1', '[::]:1', ':1', '*:1', '192.168.1.1:1', 'example.org:1', '[fe80::1]:1'],
    ...['127.0.0.1', '65536', '-1', '1.5', '127.0.0.1:', 'localhost.example.org:1', '127.1:1'],
    ...['[::ffff:0.0.0.0]:1', '128.0.0.1:1', '2130706433:1', ''],
  ]) {
    t.throws(() => listenAddress(address), { message: /^Give a (?:port|loopback)/ }, address)
  }
  t.deepEqual(['localhost:1', '127.9.9.9:0', '[::1]:9464', '65535'].map(listenAddress), [
    { host: '127.0.0.1', port: 1 },
    { host: '127.9.9.9', port: 0 },
    { host: '::1', port: 9464 },
    { host: '127.0.0.1', port: 65_535 },
  ])
  t.is((await vmclock('--listen', '0.0.0.0:0')).exitCode, 2)
})

test('--listen on a port that is taken is a typed error with a remedy', async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  t.teardown(() => other.close())
  await new Promise((resolve) => other.once('listening', resolve))
  const { port } = other.address() as { port: number }
  const { exitCode, stderr } = await vmclock('--listen', String(port), '--json')
  t.is(exitCode, 1)
  t.like(JSON.parse(stderr), {
    error: {
      code: 'ERR_VMCLOCK_SYSTEM',
      syscall: 'listen',
      remedy: 'name another port, or end the program that listens there',
    },
  })
})

test('refuses options that contradict each other, and pages that nobody can open', async (t) => {
  for (const words of [
    ['--interval', '1s'],
    ['--file', newPath(t), '--interval', '1ms'],
    ['--file', newPath(t), '--listen', '0'],
    [newPath(t), '--source', 'page'],
  ]) {
    const { exitCode, stdout } = await vmclock(...words)
    t.is(exitCode, 2, words.join(' '))
    t.is(stdout, '')
  }
})

const LOOK_MS = 20

/** Waits until a condition holds; the test's own timeout ends it. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
}
