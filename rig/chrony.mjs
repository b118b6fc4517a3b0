// Runs chronyd on both sides. A chronyd on the host serves the host's time and adjusts no clock. A chronyd in
// the guest disciplines the guest's clock by that server. The guest's network is private, and the host's
// loopback is 10.0.2.2 on it.

import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { debianDirectory, debianProgram } from '../tools/debian.mjs'
import { describeElf } from '../tools/elf.mjs'
import { disposedAtTheLatestAtExit, scratchDirectory } from './scratch.mjs'

const LIBRARIES = 'usr/lib/x86_64-linux-gnu'
// The packages to unpack, of all dependencies.
const WANTED = [
  ...['adjtimex', 'chrony', 'libc6', 'libcap2', 'libedit2', 'libbsd0', 'libmd0', 'libtinfo6'],
  ...['libseccomp2', 'libnettle8t64', 'libhogweed6t64', 'libgnutls30t64', 'libp11-kit0', 'libffi8'],
  ...['libidn2-0', 'libunistring5', 'libtasn1-6', 'libgmp10', 'coreutils'],
]
const DRIVERS = ['net/core/failover', 'drivers/net/net_failover', 'drivers/net/virtio_net']

const QUESTION_MS = 100
const START_MS = 30_000

/** Returns a directory with adjtimex(8), chronyd, chronyc, and a date(1) that accepts fractions of a second. */
export function clockPrograms() {
  return debianDirectory({
    name: 'rig-clock-amd64',
    packages: ['adjtimex:amd64', 'chrony:amd64', 'coreutils:amd64'],
    without: RegExp(`^(?!(${WANTED.join('|')})_)`),
    suites: ['trixie', 'trixie-backports'],
  })
}

/** Returns the path of an adjtimex(8) for a guest of this machine. */
export async function adjtimexFor(machine) {
  const architecture = { 'x86-64': 'amd64', aarch64: 'arm64' }[machine.name]
  const directory = await debianDirectory({
    name: `rig-adjtimex-${architecture}`,
    packages: [`adjtimex:${architecture}`],
    without: /^(?!adjtimex_)/,
    suites: ['trixie'],
  })
  return join(directory, 'usr/sbin/adjtimex')
}

/** Returns the programs of a guest that runs `startChronydOn`. */
export function chronyWithoutNetwork(directory) {
  const program = (name) => join(directory, name)
  const chronyd = program('usr/sbin/chronyd')
  const chronyc = program('usr/bin/chronyc')
  const libraries = new Set([
    ...librariesOf(chronyd, directory),
    ...librariesOf(chronyc, directory),
  ])
  return [
    ['chrony/chronyd', chronyd],
    ['chrony/chronyc', chronyc],
    ['chrony/date', program('usr/bin/date')],
    ...[...libraries].map((path) => [`chrony/${basename(path)}`, path]),
  ]
}

/** Returns the options of `withGuest` for a guest that runs `startChronyd`. */
export function chronyInGuest(directory, parts) {
  return {
    programs: [
      ...chronyWithoutNetwork(directory),
      ...DRIVERS.map((name) => join(parts.modules, `${name}.ko.xz`)).map((path) => [
        `chrony/${basename(path)}`,
        path,
      ]),
    ],
    devices: ['virtio-net-pci,netdev=host'],
    isOnHostsNetwork: true,
  }
}

/** The command that makes chronyd's directories in the guest. */
export const chronydDirectories = 'mkdir -p /var/lib/chrony && mkdir -p -m 0750 /run/chrony'

/** The commands that set up the guest's network and chronyd's directories. Each must end with exit code 0. */
export const networkCommands = [
  ...DRIVERS.map((name) => basename(name)).map(
    (name) => `xz -dc chrony/${name}.ko.xz > /tmp/driver.ko && insmod /tmp/driver.ko`,
  ),
  'ifconfig lo 127.0.0.1 up',
  'ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up',
  chronydDirectories,
]

/** Returns the command that starts chronyd in the guest, with these lines of configuration besides the server. */
export function startChronyd(port, lines) {
  return startChronydOn(`server 10.0.2.2 port ${port} iburst minpoll 0 maxpoll 0`, lines)
}

/** Returns the command that starts chronyd with a source, and with these other lines of configuration. */
export function startChronydOn(source, lines) {
  // Without `rtcsync` it leaves the kernel's flag that nothing corrects the clock, and reports the error only.
  const words = [source, 'rtcsync', ...lines].map((line) => `'${line}'`).join(' ')
  return `LD_LIBRARY_PATH=chrony chrony/chronyd -u root -l /tmp/chrony.log ${words}`
}

/** The command that ends chronyd and waits for its end, like its init script. */
export const endChronyd =
  'kill $(cat /run/chrony/chronyd.pid); while [ -e /run/chrony/chronyd.pid ]; do sleep 0.1; done'

/** Returns the command that steps the guest's clock by `ms` without chronyd. */
export const stepClockBy = (ms) => `LD_LIBRARY_PATH=chrony chrony/date -s '${ms / 1000} seconds'`

/** The command that prints chronyd's state of the guest's clock. */
export const askChronyd = 'LD_LIBRARY_PATH=chrony chrony/chronyc -n tracking'

/** Serves the host's time with chronyd on a loopback port, calls `work` with the port, and ends chronyd. */
export async function withTimeServer(directory, work) {
  const scratch = scratchDirectory()
  const port = await freePort()
  const configuration = [
    ...['local stratum 1', 'allow 127.0.0.1', 'bindaddress 127.0.0.1', `port ${port}`, 'cmdport 0'],
    `pidfile ${join(scratch.directory, 'pid')}`,
    'bindcmdaddress /',
  ]
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', debianProgram(directory, 'chronyd')],
      // In the foreground, without adjusting the clock, as the current user.
      ...['-d', '-x', '-U', '-u', userInfo().username, ...configuration],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const end = disposedAtTheLatestAtExit(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  const ended = once(child, 'close')
  try {
    await Promise.race([
      answers(port),
      ended.then(() => {
        throw new Error(`chronyd ended: ${said}`)
      }),
    ])
    return await work(port)
  } finally {
    end()
    await ended
    scratch.remove()
  }
}

async function freePort() {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  return port
}

/** Waits until the server answers a request for the time (RFC 5905: version 4, mode 3). */
async function answers(port) {
  const socket = createSocket('udp4')
  try {
    let answered = false
    socket.once('message', () => {
      answered = true
    })
    socket.on('error', () => {})
    const question = Buffer.alloc(48)
    question[0] = (4 << 3) | 3
    for (const endMs = performance.now() + START_MS; !answered; ) {
      if (performance.now() > endMs) throw new Error(`chronyd does not answer on port ${port}`)
      socket.send(question, port, '127.0.0.1')
      await setTimeout(QUESTION_MS)
    }
  } finally {
    socket.close()
  }
}

/** Returns the libraries in `directory` that a program needs, directly or indirectly. */
function librariesOf(program, directory, found = new Set()) {
  for (const name of describeElf(readFileSync(program)).libraries) {
    const path = join(directory, LIBRARIES, name)
    if (IN_GUEST.test(name) || found.has(path)) continue
    found.add(path)
    librariesOf(path, directory, found)
  }
  return found
}

// Libraries that every guest has, because Node links with them.
const IN_GUEST = /^(ld-linux|lib(c|m|dl|pthread|rt)\.so)/
