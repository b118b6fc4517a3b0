// Has Prometheus' own programs read the metrics: promtool the text and the alerts, a server and node_exporter the
// metrics of a page while it is disrupted.

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { capture, rootDirectory, run } from './command.mjs'
import { checkDashboard } from './dashboard.mjs'
import { debianDirectory, debianProgram } from './debian.mjs'

const alerts = join(rootDirectory, 'deploy/prometheus/alerts.yml')
const configurationFile = join(rootDirectory, 'deploy/prometheus/prometheus.yml')
const commandLine = join(rootDirectory, 'dist/cli.cjs')

const SHORT_MS = 5_000
const LONG_MS = 60_000
// Longer than any step takes on a busy machine.
const PATIENCE_MS = 60_000

/** Runs all checks. The long form scrapes for a minute. */
export async function checkPrometheus({ isLong }) {
  const programs = await prometheusPrograms()
  await run(programs.promtool, ['check', 'config', configurationFile])
  await run(programs.promtool, ['test', 'rules', alerts.replace('.yml', '.test.yml')])
  await checkDashboard(programs)
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-prometheus-'))
  const children = []
  try {
    await scrape({ programs, directory, children, scrapeMs: isLong ? LONG_MS : SHORT_MS })
  } finally {
    await Promise.all(children.map(ended))
    rmSync(directory, { recursive: true })
  }
}

/** Returns the paths of Debian's programs. They need no libraries but the C library. */
export async function prometheusPrograms() {
  const directory = await debianDirectory({
    name: 'prometheus',
    packages: ['prometheus', 'prometheus-node-exporter'],
    without: /^(?!prometheus)/,
  })
  return {
    promtool: debianProgram(directory, 'promtool'),
    prometheus: debianProgram(directory, 'prometheus'),
    nodeExporter: debianProgram(directory, 'prometheus-node-exporter'),
  }
}

async function scrape({ programs, directory, children, scrapeMs }) {
  const path = join(directory, 'page')
  const publisher = vmclock(children, 'publish', path, '--max-error', '5ms', '--generation', 'yes')
  await publisher.line()
  const served = vmclock(children, 'metrics', path, '--listen', '0')
  const { url } = JSON.parse(await served.line())
  const file = join(directory, 'vmclock.prom')
  await vmclock(children, 'metrics', path, '--file', file, '--interval', '1s').line()
  await checkText(programs, url, path)

  const [nodePort, port] = [await freePort(), await freePort()]
  start(children, programs.nodeExporter, [
    '--collector.disable-defaults',
    ...['--collector.textfile', `--collector.textfile.directory=${directory}`],
    `--web.listen-address=127.0.0.1:${nodePort}`,
  ])
  const config = join(directory, 'prometheus.yml')
  writeFileSync(config, configuration([new URL(url).host, `127.0.0.1:${nodePort}`]))
  start(children, programs.prometheus, [
    `--config.file=${config}`,
    `--storage.tsdb.path=${join(directory, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ])
  const server = `http://127.0.0.1:${port}`

  // Until it has read its storage, it answers queries with 503.
  await until(async () => (await fetch(`${server}/-/ready`)).ok)
  // Once both targets have a bound, they are scraped for some time.
  await until(async () => (await query(server, 'vmclock_max_error_seconds')).length === 2)
  await delay(scrapeMs)
  const window = `[${Math.ceil(scrapeMs / 1000)}s]`
  const always = [
    [`min_over_time(up${window})`, (value) => value === 1],
    [`min_over_time(vmclock_has_bound${window})`, (value) => value === 1],
    // The operator's 5 ms and what the page adds. The page is at most a few seconds old.
    [`min_over_time(vmclock_max_error_seconds${window})`, (value) => value >= 0.005],
    [`max_over_time(vmclock_max_error_seconds${window})`, (value) => value < 0.05],
    [`resets(vmclock_disruptions_total${window})`, (value) => value === 0],
    ['vmclock_disruptions_total', (value) => value === 0],
  ]
  for (const [expression, holds] of always) {
    const values = await query(server, expression)
    if (values.length !== 2 || !values.every(holds)) {
      throw new Error(`${expression} gave ${JSON.stringify(values)}`)
    }
  }

  // Both ways see a disruption and a restore, and the alerts fire.
  publisher.child.stdin.write('disrupt\ngeneration\nmaintenance soon\n')
  const fires = (name) => `ALERTS{alertname="${name}", alertstate="firing"}`
  for (const name of [
    'VmclockDisrupted',
    'VmclockGenerationChanged',
    'VmclockMaintenanceAnnounced',
  ]) {
    await until(async () => (await query(server, fires(name))).length === 2)
  }
  const silent = ['VmclockUnreadable', 'VmclockMetricsStale', 'VmclockPublisherStale']
  for (const name of silent) {
    if ((await query(server, fires(name))).length > 0) throw new Error(`${name} fired`)
  }
  // The end of the publisher shows at once, and no figure of its time remains.
  publisher.child.stdin.write('quit\n')
  await until(async () => (await query(server, 'vmclock_publisher_alive == 0')).length === 2)
  await until(async () => (await query(server, 'vmclock_max_error_seconds')).length === 0)
  console.log(`  scraped for ${scrapeMs / 1000} s: served, and by node_exporter`)
}

/** Has promtool check what is served and what is printed, for pages of several kinds. */
async function checkText({ promtool }, url, path) {
  const texts = [
    await (await fetch(url)).text(),
    await capture(process.execPath, [commandLine, 'metrics', path]),
    await capture(process.execPath, [commandLine, 'metrics', `${path}-none`]),
  ]
  for (const text of texts) await checked(promtool, text)
  // The check can fail.
  const refused = await checked(promtool, 'vmclock_up{ 1\n').then(
    () => false,
    () => true,
  )
  if (!refused) throw new Error('promtool accepted a broken line')
}

function checked(promtool, text) {
  return new Promise((resolve, reject) => {
    const child = spawn(promtool, ['check', 'metrics'], { stdio: ['pipe', 'pipe', 'pipe'] })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk) => {
        said += chunk
      })
    }
    child.on('error', reject)
    child.on('close', (code) => {
      if (code === 0 && said === '') resolve()
      else reject(new Error(`promtool check metrics: exit code ${code}\n${said}\n${text}`))
    })
    child.stdin.end(text)
  })
}

function configuration(targets) {
  return JSON.stringify({
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: [alerts],
    scrape_configs: [{ job_name: 'vmclock', static_configs: [{ targets }] }],
  })
}

/** Returns the values of an instant query. */
async function query(server, expression) {
  const url = `${server}/api/v1/query?query=${encodeURIComponent(expression)}`
  const { status, data, error } = await (await fetch(url)).json()
  if (status !== 'success') throw new Error(`${expression}: ${error}`)
  return data.result.map(({ value: [, value] }) => Number(value))
}

/** Waits until a question is answered with true. A server that does not listen yet answers with false. */
async function until(question) {
  const endMs = performance.now() + PATIENCE_MS
  while (!(await question().catch(unlessRefused))) {
    if (performance.now() > endMs) throw new Error(`still not so: ${question}`)
    await delay(100)
  }
}

function unlessRefused(error) {
  if (error.cause?.code === 'ECONNREFUSED') return false
  throw error
}

function vmclock(children, ...words) {
  const more = words[0] === 'publish' ? ['--allow-untrusted-counter'] : []
  // A machine with a device that this process cannot look at gives no bound.
  const args = [commandLine, ...words, ...more, '--allow-unguarded', '--json']
  const child = start(children, process.execPath, args)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    child,
    async line() {
      const { value, done } = await lines.next()
      if (done) throw new Error(`vmclock ${words.join(' ')} ended`)
      return value
    },
  }
}

function start(children, program, args) {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  children.push(child)
  let said = ''
  child.stdout.resume()
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  child.on('close', (code) => {
    if (code !== 0 && code !== null) console.log(`  ${program} ended with ${code}:\n${said}`)
  })
  return child
}

function ended(child) {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    child.once('close', resolve)
    child.kill('SIGTERM')
  })
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}
