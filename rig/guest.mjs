// A guest from boot to end: an emulated machine whose memory is a file of the host's, with the page
// inside it that the host writes and the guest's driver maps.

import { randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { capture, rootFolder, succeeds, Unavailable } from '../tools/command.mjs'
import { GuestConsole } from './console.mjs'
import { Dialogue } from './dialogue.mjs'
import { Emulator } from './emulator.mjs'
import { writeInitramfs } from './initramfs.mjs'
import { noTimeFields, pairWithHost, timeFields } from './page.mjs'
import { scratchFolder } from './scratch.mjs'

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
 * are QEMU's own to add, in the words of its `-device`; with `isDescribed` false the firmware says
 * nothing of the page, so that the driver finds no device.
 */
export function withGuest({ machine, tools, parts }, options, work) {
  return withinScratch(machine, tools, async (guest) => {
    await guest.boot(parts, options)
    return work(guest)
  })
}

/**
 * Restores what `Guest.snapshot` gave, as often as one likes, gives the guest to `work` and ends it,
 * whatever happens. `beforeItRuns` gets it as well: it is the host's moment to write its page.
 */
export function withClone(snapshot, beforeItRuns, work) {
  const { machine, tools } = snapshot
  return withinScratch(machine, tools, async (clone) => {
    await clone.restore(snapshot, beforeItRuns)
    return work(clone)
  })
}

async function withinScratch(machine, tools, work) {
  const scratch = scratchFolder()
  const guest = new Guest(machine, tools, await importPackage(), scratch.folder)
  try {
    return await work(guest)
  } finally {
    await guest.end()
    scratch.remove()
  }
}

// Imported only here: the package is built after this module is loaded.
async function importPackage() {
  return { ...(await import('vmclock')), ...(await import('vmclock/testing')) }
}

class Guest {
  #tools
  #vmclock
  #folder
  #emulator
  // The machine's options that do not depend on which process it is.
  #options
  #mark
  #hostClock
  #hostAtStart
  /** What kind of machine it is, as of `machines.mjs`. */
  machine
  /** The guest's page, for the host to write: a `VmClockPage`. */
  page
  /** The console, for commands: see `GuestConsole`. */
  console
  /** The fields that were last written as the truth. */
  timeFields
  /** Seconds from the start to the shell, and from there to a page with time and its driver. */
  bootSeconds
  clockSeconds
  /** When a restored guest was let run, in milliseconds of `performance.now()`. */
  resumedAtMs

  constructor(machine, tools, vmclock, folder) {
    this.machine = machine
    this.#tools = tools
    this.#vmclock = vmclock
    this.#folder = folder
  }

  async boot(parts, { programs = [], devices = [], isDescribed = true, isOnHostsNetwork = false }) {
    const startMs = performance.now()
    const machine = this.machine
    const initramfs = join(this.#folder, 'initramfs')
    writeInitramfs(initramfs, userland(machine, parts, programs))
    this.page = this.#vmclock.VmClockPage.create(
      this.#ramPath,
      // It says nothing yet, unless the machine needs it to.
      {
        seqCount: 2,
        disruptionMarker: 1n,
        vmGenerationCounter: 1n,
        ...machine.earlyFields?.(),
      },
      { fileBytes: RAM_BYTES, pageOffset: machine.pageOffset, mode: 0o600 },
    )
    await this.#lookAtHost()
    this.#mark = randomBytes(8).toString('hex')
    // What the kernel has to say, unless it ends, would stand in the middle of what programs say.
    const words = [...machine.kernelWords, 'loglevel=1', 'panic=-1', `rig.mark=${this.#mark}`]
    this.#options = [
      ...(await machine.machineOptions(this.#tools, this.#folder, RAM_MEBIBYTES, isDescribed)),
      ...['-m', `${RAM_MEBIBYTES}M`],
      ...(isOnHostsNetwork ? ['-netdev', 'user,id=host'] : []),
      ...devices.flatMap((device) => ['-device', device]),
      ...['-kernel', parts.kernel, '-initrd', initramfs, '-append', words.join(' ')],
    ]
    this.console = new GuestConsole(this.#mark)
    this.#start()
    await this.console.ready(BOOT_MS)
    this.bootSeconds = secondsSince(startMs)
    await this.tellTime()
    if (machine.loadDriver !== undefined) {
      const loaded = await this.console.execute(machine.loadDriver)
      if (loaded !== 0) throw new Error('the driver does not load')
    }
    this.clockSeconds = secondsSince(startMs) - this.bootSeconds
  }

  /** The machine itself, to be stopped and continued: a `MachineControl`. */
  get control() {
    return this.#emulator.control
  }

  /** One line that says what was booted and how long it took. */
  get summary() {
    const [boot, clock] = [this.bootSeconds, this.clockSeconds].map((s) => s.toFixed(1))
    return `vmclock: guest (${this.machine.name}): boot ${boot} s, clock and driver ${clock} s`
  }

  /** A counter of the host's that runs as the guest's does but for its origin. */
  get ticksNow() {
    const { counterIsTheHosts, counterRate } = this.machine
    return counterIsTheHosts
      ? () => this.#hostClock.counter()
      : () => (process.hrtime.bigint() * counterRate.ticks) / counterRate.ns
  }

  /** Writes the truth on the page, and `others` of its fields in the same update. */
  async tellTime(others = {}) {
    const rate = await this.#counterRate()
    const pair = await this.converse('calibration.mjs', [], (ask) =>
      pairWithHost(async () => BigInt(await ask())),
    )
    this.timeFields = { counterId: this.machine.counterId, ...timeFields(pair, rate) }
    this.page.write({ ...this.timeFields, ...others })
  }

  /** Makes the page one that has the marker only. */
  tellNoTime() {
    this.page.write(noTimeFields)
  }

  /** Raises the interrupt by which the page's changes are notified of. */
  interrupt() {
    return this.#emulator.interrupts.pulse(...this.machine.interruptLine)
  }

  /** Runs a program of `rig/programs/` in the guest's Node; options and result as of `execute`. */
  run(program, args = [], options = {}) {
    return this.console.execute(['node', program, ...args].map(quoted).join(' '), options)
  }

  /**
   * Runs a program that can be talked with, and waits until it is ready: a `Dialogue`. The talk may take
   * `timeoutMs`, or as long as the console lets any command take.
   */
  async talk(program, args = [], { timeoutMs } = {}) {
    const dialogue = new Dialogue(this.console, (options) =>
      this.run(program, args, { ...options, timeoutMs }),
    )
    await dialogue.ready()
    return dialogue
  }

  /** The dialogue that was under way when the guest was saved. */
  goOnTalking() {
    return new Dialogue(this.console, (options) => this.console.takeOver(options))
  }

  /** Talks with a program for as long as `work` does, which gets a function that asks once. */
  async converse(program, args, work) {
    const dialogue = await this.talk(program, args)
    const result = await work(() => dialogue.ask())
    await dialogue.end()
    return result
  }

  /**
   * Moves the guest to another process of the emulator, as a live migration moves it to another host.
   * `beforeItRuns` is that host's moment to write the page. Gives the moment at which the guest was let
   * go on, in milliseconds of `performance.now()`.
   */
  async migrate(beforeItRuns = () => {}) {
    const state = join(this.#folder, 'state')
    await this.control.execute('stop')
    await this.control.saveTo(state)
    const left = this.#emulator
    this.#emulator = undefined
    await left.end()
    return this.#startFrom(state, beforeItRuns)
  }

  /** Saves the guest as it is now, for `withClone`, as long as this guest lives; it goes on. */
  async snapshot() {
    const state = join(this.#folder, 'snapshot')
    const ram = `${state}-ram`
    await this.control.execute('stop')
    await this.control.saveTo(state)
    await copyMemory(this.#ramPath, ram)
    await this.control.execute('cont')
    const { timeFields } = this
    return {
      ...{ machine: this.machine, tools: this.#tools, options: this.#options, mark: this.#mark },
      ...{ state, ram, timeFields },
    }
  }

  /** See `withClone`. */
  async restore({ options, mark, state, ram, timeFields }, beforeItRuns) {
    await copyMemory(ram, this.#ramPath)
    this.page = this.#vmclock.VmClockPage.open(this.#ramPath, this.machine.pageOffset)
    await this.#lookAtHost()
    this.#options = options
    this.#mark = mark
    this.timeFields = timeFields
    this.console = new GuestConsole(mark)
    this.resumedAtMs = await this.#startFrom(state, beforeItRuns)
  }

  async end() {
    await this.#emulator?.end()
    this.page?.close()
    this.#hostClock?.close()
  }

  get #ramPath() {
    return join(this.#folder, 'ram')
  }

  async #startFrom(state, beforeItRuns) {
    this.#start(['-S', '-incoming', 'defer'])
    await this.control.loadFrom(state)
    beforeItRuns(this)
    const resumedAtMs = performance.now()
    await this.control.execute('cont')
    return resumedAtMs
  }

  #start(more = []) {
    const emulator = new Emulator(this.#tools, this.machine.emulator, [
      '-object',
      `memory-backend-file,id=ram,size=${RAM_BYTES},mem-path=${this.#ramPath},share=on`,
      ...this.#options,
      ...more,
    ])
    this.#emulator = emulator
    this.console.connect(emulator.input, emulator.output)
    emulator.exited.then((reason) => {
      // Not of a machine that the guest has left.
      if (this.#emulator === emulator) this.console.end(reason)
    })
  }

  // This machine's counter and clock, to hold the guest's counter against.
  async #lookAtHost() {
    const { VmClock, VmClockPage } = this.#vmclock
    // Any page will do to read the counter.
    const path = join(this.#folder, 'host')
    VmClockPage.create(path, {}).close()
    this.#hostClock = VmClock.open(path)
    this.#hostAtStart = await this.#hostPair()
  }

  #hostPair() {
    return pairWithHost(() => this.#hostClock.counter(), 100)
  }

  async #counterRate() {
    if (!this.machine.counterIsTheHosts) return this.machine.counterRate
    const now = await this.#hostPair()
    return {
      ticks: now.answer - this.#hostAtStart.answer,
      ns: now.epochNs - this.#hostAtStart.epochNs,
    }
  }
}

// With its holes: most of a guest's memory was never touched.
function copyMemory(from, to) {
  return capture('cp', ['--sparse=always', from, to])
}

function userland(machine, parts, programs) {
  const inTree = (path) => ({ file: join(rootFolder, path) })
  const entries = new Map([
    ['init', inTree('rig/init.sh')],
    ['bin/busybox', { file: parts.busybox }],
    ['bin/phc_ctl', { file: parts.phcCtl }],
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
