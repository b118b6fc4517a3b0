// Boots, runs and ends a guest. The guest's memory is a file on the host. The vmclock page is part of that
// file: the host writes it, and the guest's driver maps it.

import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readdirSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { capture, rootDirectory, succeeds, Unavailable } from '../tools/command.mjs'
import { GuestConsole } from './console.mjs'
import { Dialogue } from './dialogue.mjs'
import { Emulator } from './emulator.mjs'
import { writeInitramfs } from './initramfs.mjs'
import { noTimeFields, pairWithHost, timeFields } from './page.mjs'
import { scratchDirectory } from './scratch.mjs'

const RAM_MEBIBYTES = 1024
const RAM_BYTES = RAM_MEBIBYTES * 1024 ** 2
const VMGENID_BYTES = 16
// Much longer than a boot takes, so that a busy host does not fail a test.
const BOOT_MS = 300_000
// Long enough to know the rate of the host's counter to some parts per million.
const RATE_MS = 200

// The libraries that Node and the addon link with.
const LIBRARIES = ['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', 'librt.so.1'].concat([
  'libgcc_s.so.1',
  'libstdc++.so.6',
])

/** Builds and unpacks everything that a guest of this machine needs to boot. */
export async function prepareGuest(machine) {
  // setpriv ends the guest when its parent ends, even if the parent is killed.
  if (!(await succeeds('setpriv', ['--version']))) throw new Unavailable('no setpriv (util-linux)')
  const tools = await machine.tools()
  const parts = await machine.guest()
  await machine.setUpPackage()
  return { machine, tools, parts }
}

/**
 * Boots a guest, calls `work` with it, and always ends it. The options:
 *
 * - `programs`: files of the host to add to the guest's `programs/`, as pairs of name and path.
 * - `devices`: devices of QEMU to add, as arguments of its `-device`.
 * - `more`: further arguments of QEMU. A later `-cpu` replaces the machine's own.
 * - `isDescribed`: if false, the firmware does not describe the page, and the driver finds no device.
 * - `hasVmgenid`: if true, the machine has a VMGENID device. Each clone gets another identifier.
 * - `isOnHostsNetwork`: if true, the guest can reach the host's loopback at 10.0.2.2.
 */
export function withGuest({ machine, tools, parts }, options, work) {
  return withinScratch(machine, tools, async (guest) => {
    await guest.boot(parts, options)
    return work(guest)
  })
}

/**
 * Restores a snapshot of `Guest.snapshot`, calls `work` with the clone, and always ends it. A snapshot can be
 * restored many times. `beforeItRuns` gets the clone while it is stopped, so that the host can write its
 * page.
 */
export function withClone(snapshot, beforeItRuns, work) {
  const { machine, tools } = snapshot
  return withinScratch(machine, tools, async (clone) => {
    await clone.restore(snapshot, beforeItRuns)
    return work(clone)
  })
}

async function withinScratch(machine, tools, work) {
  const scratch = scratchDirectory()
  const guest = new Guest(machine, tools, await importPackage(), scratch.directory)
  try {
    return await work(guest)
  } finally {
    await guest.end()
    scratch.remove()
  }
}

// A late import: the package is built after this module is loaded.
async function importPackage() {
  return { ...(await import('vmclock')), ...(await import('vmclock/testing')) }
}

class Guest {
  #tools
  #vmclock
  #directory
  #emulator
  // The emulator options that all processes of this guest share.
  #options
  #mark
  #hostClock
  #hostAtStart
  /** The kind of machine, from `machines.mjs`. */
  machine
  /** The guest's vmclock page, which the host writes: a `VmClockPage`. */
  page
  /** The console, which runs commands: a `GuestConsole`. */
  console
  /** The fields of the true time that `writeTime` wrote last. */
  timeFields
  /** Seconds from the start to the shell. */
  bootSeconds
  /** Seconds from the shell to a page with time and a loaded driver. */
  clockSeconds
  /** The time at which a restored guest continued, in milliseconds of `performance.now()`. */
  resumedAtMs

  constructor(machine, tools, vmclock, directory) {
    this.machine = machine
    this.#tools = tools
    this.#vmclock = vmclock
    this.#directory = directory
  }

  async boot(
    parts,
    {
      programs = [],
      devices = [],
      more = [],
      isDescribed = true,
      hasVmgenid = false,
      isOnHostsNetwork = false,
    },
  ) {
    const startMs = performance.now()
    const machine = this.machine
    const initramfs = join(this.#directory, 'initramfs')
    writeInitramfs(initramfs, userland(machine, parts, programs))
    this.page = this.#vmclock.VmClockPage.create(
      this.#ramPath,
      // Without time, unless the machine's driver needs time at boot.
      {
        seqCount: 2,
        disruptionMarker: 1n,
        vmGenerationCounter: 1n,
        ...machine.earlyFields?.(),
      },
      { fileBytes: RAM_BYTES, pageOffset: machine.pageOffset, mode: 0o600 },
    )
    await this.#openHostClock()
    this.#mark = randomBytes(8).toString('hex')
    // Only fatal kernel messages, so that the others do not mix with the output of programs.
    const words = [
      ...machine.kernelWords,
      ...(await this.#rateWords()),
      ...['loglevel=1', 'panic=-1', `rig.mark=${this.#mark}`],
    ]
    this.#options = [
      ...(await machine.machineOptions(this.#tools, this.#directory, {
        ramMebibytes: RAM_MEBIBYTES,
        isDescribed,
        hasVmgenid,
      })),
      ...['-m', `${RAM_MEBIBYTES}M`],
      ...(isOnHostsNetwork ? ['-netdev', 'user,id=host'] : []),
      ...devices.flatMap((device) => ['-device', device]),
      ...more,
      ...['-kernel', parts.kernel, '-initrd', initramfs, '-append', words.join(' ')],
    ]
    this.console = new GuestConsole(this.#mark)
    this.#start()
    await this.console.ready(BOOT_MS)
    this.bootSeconds = secondsSince(startMs)
    await this.writeTime()
    if (machine.loadDriver !== undefined) {
      const loaded = await this.console.execute(machine.loadDriver)
      if (loaded !== 0) throw new Error('the driver cannot be loaded')
    }
    this.clockSeconds = secondsSince(startMs) - this.bootSeconds
  }

  /** Stops and continues the machine: a `MachineControl`. */
  get control() {
    return this.#emulator.control
  }

  /** One line with the machine and its boot times. */
  get summary() {
    const [boot, clock] = [this.bootSeconds, this.clockSeconds].map((s) => s.toFixed(1))
    return `vmclock: guest (${this.machine.name}): boot ${boot} s, clock and driver ${clock} s`
  }

  /** Returns a function that reads a counter of the host with the same rate as the guest's counter. */
  get ticksNow() {
    const { counterIsTheHosts, counterRate } = this.machine
    return counterIsTheHosts
      ? () => this.#hostClock.counter()
      : () => (process.hrtime.bigint() * counterRate.ticks) / counterRate.ns
  }

  /** Writes the true time to the page, and the fields `others` in the same update. */
  async writeTime(others = {}) {
    const rate = await this.counterRate()
    const pair = await this.converse('calibration.mjs', [], (ask) =>
      pairWithHost(async () => BigInt(await ask())),
    )
    this.timeFields = { counterId: this.machine.counterId, ...timeFields(pair, rate) }
    this.page.write({ ...this.timeFields, ...others })
  }

  /** Removes the time from the page, and leaves only the disruption marker. */
  removeTime() {
    this.page.write(noTimeFields)
  }

  /** Raises the interrupt that notifies the guest of a changed page. */
  interrupt() {
    return this.#emulator.interrupts.pulse(...this.machine.interruptLine)
  }

  /**
   * Gives a stopped clone another VMGENID identifier, and notifies it, where the identifier is in its memory. On
   * other machines `renewedOptions` have done so.
   */
  async renewVmgenid() {
    const { vmgenid } = this.machine
    if (vmgenid.offset === undefined) return
    const ram = openSync(this.#ramPath, 'r+')
    writeSync(ram, randomBytes(VMGENID_BYTES), 0, VMGENID_BYTES, vmgenid.offset)
    closeSync(ram)
    await this.#emulator.interrupts.pulse(...vmgenid.interruptLine)
  }

  /** Runs a program of `rig/programs/` in the guest's Node. Options and result are those of `execute`. */
  run(program, args = [], options = {}) {
    return this.console.execute(['node', program, ...args].map(quoted).join(' '), options)
  }

  /**
   * Starts a program and returns a `Dialogue` with it when it is ready. The program must end within
   * `timeoutMs`, or within the console's default.
   */
  async talk(program, args = [], { timeoutMs } = {}) {
    const dialogue = new Dialogue(this.console, (options) =>
      this.run(program, args, { ...options, timeoutMs }),
    )
    await dialogue.ready()
    return dialogue
  }

  /** Continues the dialogue that was active when this guest was saved. The time limit is that of `talk`. */
  resumeTalk({ timeoutMs } = {}) {
    return new Dialogue(this.console, (options) => this.console.takeOver({ ...options, timeoutMs }))
  }

  /** Runs a program while `work` runs. `work` gets a function that asks the program once. */
  async converse(program, args, work) {
    const dialogue = await this.talk(program, args)
    const result = await work(() => dialogue.ask())
    await dialogue.end()
    return result
  }

  /**
   * Moves the guest to another emulator process, like a live migration to another host. `beforeItRuns` runs
   * while the guest is stopped, so that the host can write the page. Returns the time at which the guest
   * continued, in milliseconds of `performance.now()`.
   */
  async migrate(beforeItRuns = () => {}) {
    const state = join(this.#directory, 'state')
    await this.control.execute('stop')
    await this.control.saveTo(state)
    const left = this.#emulator
    this.#emulator = undefined
    await left.end()
    return this.#startFrom(state, beforeItRuns)
  }

  /** Saves the guest's state for `withClone`, and lets the guest continue. Valid until the guest ends. */
  async snapshot() {
    const state = join(this.#directory, 'snapshot')
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

  /** Restores a snapshot into this guest. See `withClone`. */
  async restore({ options, mark, state, ram, timeFields }, beforeItRuns) {
    await copyMemory(ram, this.#ramPath)
    this.page = this.#vmclock.VmClockPage.open(this.#ramPath, this.machine.pageOffset)
    await this.#openHostClock()
    this.#options = this.machine.vmgenid.renewedOptions(options)
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
    return join(this.#directory, 'ram')
  }

  async #startFrom(state, beforeItRuns) {
    this.#start(['-S', '-incoming', 'defer'])
    await this.control.loadFrom(state)
    await beforeItRuns(this)
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
      // Ignores the end of a process that the guest has left.
      if (this.#emulator === emulator) this.console.end(reason)
    })
  }

  // Opens the host's counter, which the guest's counter is compared with.
  async #openHostClock() {
    const { VmClock, VmClockPage } = this.#vmclock
    // Reading the counter needs a page, but no time in it.
    const path = join(this.#directory, 'host')
    VmClockPage.create(path, {}).close()
    this.#hostClock = VmClock.open(path)
    this.#hostAtStart = await this.#hostPair()
  }

  #hostPair() {
    return pairWithHost(() => this.#hostClock.counter(), 100)
  }

  /**
   * The kernel's words for the rate of its counter. On a busy host the kernel may measure one that is wrong by
   * half, and then nothing that a program can read shows that its clock runs away.
   */
  async #rateWords() {
    if (this.machine.rateWord === undefined) return []
    await setTimeout(RATE_MS)
    const { ticks, ns } = await this.counterRate()
    return [this.machine.rateWord(Math.round((Number(ticks) * 1e6) / Number(ns)))]
  }

  /** Measures the rate of the guest's counter by the host's clock, as `ticks` in `ns`. */
  async counterRate() {
    if (!this.machine.counterIsTheHosts) return this.machine.counterRate
    const now = await this.#hostPair()
    return {
      ticks: now.answer - this.#hostAtStart.answer,
      ns: now.epochNs - this.#hostAtStart.epochNs,
    }
  }
}

// Keeps the holes in the file, because a guest uses little of its memory.
function copyMemory(from, to) {
  return capture('cp', ['--sparse=always', from, to])
}

function userland(machine, parts, programs) {
  const inTree = (path) => ({ file: join(rootDirectory, path) })
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
    entries.set(`${machine.libraryDirectory}/${library}`, { file: join(parts.libraries, library) })
  }
  if (parts.libatomic !== undefined) {
    entries.set(`${machine.libraryDirectory}/libatomic.so.1`, { file: parts.libatomic })
  }
  if (machine.driver !== undefined) {
    entries.set('driver.ko.xz', { file: join(parts.modules, machine.driver) })
  }
  // Like an installed package.
  const packageFiles = readdirSync(join(rootDirectory, 'dist')).map((file) => `dist/${file}`)
  for (const path of ['package.json', `native/${machine.addon}`].concat(
    packageFiles.filter((file) => /\.[cm]js$/.test(file)),
  )) {
    entries.set(`node_modules/vmclock/${path}`, inTree(path))
  }
  for (const program of readdirSync(join(rootDirectory, 'rig/programs'))) {
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
