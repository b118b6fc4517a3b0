// A guest from boot to end: an emulated machine whose memory is a file of the host's, with the page
// inside it that the host writes and the guest's driver maps.

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { rootFolder, succeeds, Unavailable } from '../tools/command.mjs'
import { GuestConsole } from './console.mjs'
import { writeInitramfs } from './initramfs.mjs'
import { noTimeFields, pairWithHost, timeFields } from './page.mjs'
import { MachineControl } from './qmp.mjs'
import { disposedAtTheLatestAtExit, scratchFolder } from './scratch.mjs'

const RAM_MEBIBYTES = 1024
const RAM_BYTES = RAM_MEBIBYTES * 1024 ** 2
// Many times what it takes: a machine that others keep busy must not fail a test.
const BOOT_MS = 300_000

// What Node and the addon link to.
const LIBRARIES = ['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', 'librt.so.1'].concat([
  'libgcc_s.so.1',
  'libstdc++.so.6',
])

/** Brings the tree and the cache to where a guest of this machine can boot. */
export async function prepareGuest(machine) {
  // A guest must not outlive whoever started it, not even one that was killed.
  if (!(await succeeds('setpriv', ['--version']))) throw new Unavailable('no setpriv (util-linux)')
  const tools = await machine.tools()
  const parts = await machine.guest()
  await machine.setUpPackage()
  return { machine, tools, parts }
}

/**
 * Boots a guest, gives it to `work` and ends it, whatever happens. `programs` are files of this
 * machine that stand beside those of `programs/` in the guest, by the names they have there; `devices`
 * are QEMU's own to add, in the words of its `-device`.
 */
export async function withGuest({ machine, tools, parts }, options, work) {
  const scratch = scratchFolder()
  const guest = new Guest(machine, await import('vmclock'), scratch.folder)
  try {
    await guest.boot(tools, parts, options)
    return await work(guest)
  } finally {
    await guest.end()
    scratch.remove()
  }
}

class Guest {
  #machine
  #vmclock
  #folder
  #exited
  #kill = () => {}
  #hostClock
  #hostAtStart
  /** The guest's page, for the host to write: a `VmClockPage`. */
  page
  /** The console, for commands: see `GuestConsole`. */
  console
  /** The machine itself, to be stopped and continued: a `MachineControl`. */
  control
  /** The fields that were last written as the truth. */
  timeFields
  /** Seconds from the start to the shell, and from there to a page with time and its driver. */
  bootSeconds
  clockSeconds

  constructor(machine, vmclock, folder) {
    this.#machine = machine
    this.#vmclock = vmclock
    this.#folder = folder
  }

  async boot(tools, parts, { programs = [], devices = [] }) {
    const startMs = performance.now()
    const machine = this.#machine
    const initramfs = join(this.#folder, 'initramfs')
    writeInitramfs(initramfs, userland(machine, parts, programs))
    this.#makePage()
    this.#hostAtStart = await this.#hostPair()
    const mark = randomBytes(8).toString('hex')
    const words = [...machine.kernelWords, 'quiet', 'panic=-1', `rig.mark=${mark}`]
    this.#start(tools, mark, [
      ...[
        '-L',
        join(tools.folder, 'usr/share/qemu'),
        '-L',
        join(tools.folder, 'usr/share/seabios'),
      ],
      ...['-nodefaults', '-display', 'none', '-no-reboot', '-m', `${RAM_MEBIBYTES}M`],
      '-object',
      `memory-backend-file,id=ram,size=${RAM_BYTES},mem-path=${this.#ramPath},share=on`,
      ...(await machine.machineOptions(tools, this.#folder, RAM_MEBIBYTES)),
      ...devices.flatMap((device) => ['-device', device]),
      ...['-qmp', `unix:${this.#controlPath},server=on,wait=off`],
      ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
      ...['-kernel', parts.kernel, '-initrd', initramfs, '-append', words.join(' ')],
    ])
    await this.console.ready(BOOT_MS)
    this.control = await MachineControl.connect(this.#controlPath)
    this.bootSeconds = secondsSince(startMs)
    await this.tellTime()
    if (machine.loadDriver !== undefined) {
      const loaded = await this.console.execute(machine.loadDriver)
      if (loaded !== 0) throw new Error('the driver does not load')
    }
    this.clockSeconds = secondsSince(startMs) - this.bootSeconds
  }

  /** One line that says what was booted and how long it took. */
  get summary() {
    const [boot, clock] = [this.bootSeconds, this.clockSeconds].map((s) => s.toFixed(1))
    return `vmclock: guest (${this.#machine.name}): boot ${boot} s, clock and driver ${clock} s`
  }

  /** Writes the truth on the page, and `others` of its fields in the same update. */
  async tellTime(others = {}) {
    const rate = await this.#counterRate()
    const pair = await this.converse('calibration.mjs', [], (ask) =>
      pairWithHost(async () => BigInt(await ask())),
    )
    this.timeFields = { counterId: this.#machine.counterId, ...timeFields(pair, rate) }
    this.page.write({ ...this.timeFields, ...others })
  }

  /** Makes the page one that has the marker only. */
  tellNoTime() {
    this.page.write(noTimeFields)
  }

  /** Runs a program of `rig/programs/` in the guest's Node; options and result as of `execute`. */
  run(program, args = [], options = {}) {
    return this.console.execute(['node', program, ...args].map(quoted).join(' '), options)
  }

  /**
   * Runs a program that answers each line it gets with a line, after a first one that says that it is
   * ready, and ends at the line `end`. Gives what `work` gives, which gets a function that asks once.
   */
  async converse(program, args, work) {
    const lines = []
    let wanted
    let failed
    const ended = this.run(program, args, {
      onText(text) {
        lines.push(text)
        wanted?.resolve()
      },
    }).then(
      (exitCode) => `exit code ${exitCode}`,
      (error) => error.message,
    )
    ended.then((how) => {
      failed = new Error(`${program} ended too soon: ${how}\n${lines.join('')}`)
      wanted?.reject(failed)
    })
    const next = async () => {
      if (lines.length === 0) {
        if (failed !== undefined) throw failed
        await new Promise((resolve, reject) => {
          wanted = { resolve, reject }
        })
        wanted = undefined
      }
      return lines.shift().trimEnd()
    }
    const ready = await next()
    if (ready !== 'ready') throw new Error(`${program} is not ready: ${ready}\n${await ended}`)
    const result = await work(() => {
      this.console.send('ask')
      return next()
    })
    this.console.send('end')
    await ended
    return result
  }

  async end() {
    this.#kill()
    await this.#exited
    this.control?.close()
    this.page?.close()
    this.#hostClock?.close()
  }

  get #controlPath() {
    return join(this.#folder, 'control')
  }

  get #ramPath() {
    return join(this.#folder, 'ram')
  }

  // The file of the guest's memory, with a page in it that says nothing yet.
  #makePage() {
    const { VmClock, VmClockPage } = this.#vmclock
    this.page = VmClockPage.create(
      this.#ramPath,
      {
        seqCount: 2,
        disruptionMarker: 1n,
        vmGenerationCounter: 1n,
        ...this.#machine.earlyFields?.(),
      },
      { fileBytes: RAM_BYTES, pageOffset: this.#machine.pageOffset, mode: 0o600 },
    )
    // Any page will do to read this machine's counter.
    const hostPage = join(this.#folder, 'host')
    VmClockPage.create(hostPage, {}).close()
    this.#hostClock = VmClock.open(hostPage)
  }

  #hostPair() {
    return pairWithHost(() => this.#hostClock.counter(), 100)
  }

  async #counterRate() {
    if (!this.#machine.counterIsTheHosts) return this.#machine.counterRate
    const now = await this.#hostPair()
    return {
      ticks: now.answer - this.#hostAtStart.answer,
      ns: now.epochNs - this.#hostAtStart.epochNs,
    }
  }

  #start(tools, mark, options) {
    const emulator = tools.program(this.#machine.emulator)
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', emulator, ...options], {
      stdio: 'pipe',
      env: {
        ...process.env,
        QEMU_MODULE_DIR: join(tools.folder, 'usr/lib/x86_64-linux-gnu/qemu'),
      },
    })
    this.console = new GuestConsole(child.stdin, child.stdout, mark)
    let complaint = ''
    child.stderr.setEncoding('utf8').on('data', (text) => {
      complaint += text
    })
    this.#exited = new Promise((resolve) => {
      const ended = (reason) => {
        this.console.end(reason)
        resolve()
      }
      child.on('error', (error) => ended(`the emulator does not start: ${error.message}`))
      child.on('close', () => ended(`the guest's machine ended by itself\n${complaint}`))
    })
    this.#kill = disposedAtTheLatestAtExit(() => child.kill('SIGKILL'))
  }
}

function userland(machine, parts, programs) {
  const inTree = (path) => ({ file: join(rootFolder, path) })
  const entries = new Map([
    ['init', inTree('rig/init.sh')],
    ['bin/busybox', { file: parts.busybox }],
    ['bin/node', { file: parts.node }],
    [machine.loader, { file: join(parts.libraries, machine.loader.split('/').at(-1)) }],
    ['etc/passwd', { text: 'root:x:0:0::/:/bin/sh\nguest:x:1000:1000::/:/bin/sh\n' }],
    ['package.json', { text: '{}' }],
  ])
  for (const library of LIBRARIES) {
    entries.set(`${machine.libraryFolder}/${library}`, { file: join(parts.libraries, library) })
  }
  if (machine.driver !== undefined) {
    entries.set('driver.ko.xz', { file: join(parts.modules, machine.driver) })
  }
  // As an installed package would lie there.
  const packageFiles = readdirSync(join(rootFolder, 'dist')).map((file) => `dist/${file}`)
  for (const path of ['package.json', `native/${machine.addon}`].concat(
    packageFiles.filter((file) => /\.[cm]js$/.test(file)),
  )) {
    entries.set(`node_modules/vmclock/${path}`, inTree(path))
  }
  for (const program of readdirSync(join(rootFolder, 'rig/programs'))) {
    entries.set(`rig/programs/${program}`, inTree(`rig/programs/${program}`))
  }
  for (const [name, file] of programs) entries.set(`rig/programs/${name}`, { file })
  return entries
}

function quoted(word) {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

function secondsSince(startMs) {
  return (performance.now() - startMs) / 1000
}
