// One process of the emulator: the guest's console on its standard streams, and a socket each to
// control the machine and to raise its interrupts, both open from the start and without a name. It
// does not outlive this process.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { MachineControl } from './qmp.mjs'
import { InterruptLines } from './qtest.mjs'
import { disposedAtTheLatestAtExit } from './scratch.mjs'

const CONTROL_FD = 3
const INTERRUPTS_FD = 4

export class Emulator {
  #kill
  /** The console's streams, as this process sees them. */
  input
  output
  /** The machine, to be stopped, saved and continued: a `MachineControl`. */
  control
  /** The way to its interrupt controllers: an `InterruptLines`. */
  interrupts
  /** Resolves with the reason when the process is gone and all that it said was heard. */
  exited

  /** Starts the emulator of this name with these options, and with a console, a control and so on. */
  constructor(tools, name, options) {
    const socket = (id, fd) => ['-chardev', `socket,id=${id},fd=${fd}`]
    const child = spawn(
      'setpriv',
      [
        ...['--pdeathsig', 'KILL', tools.program(name)],
        ...['-L', join(tools.folder, 'usr/share/qemu')],
        ...['-L', join(tools.folder, 'usr/share/seabios')],
        ...['-nodefaults', '-display', 'none', '-no-reboot'],
        ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
        ...[...socket('control', CONTROL_FD), '-mon', 'chardev=control,mode=control'],
        ...[...socket('interrupts', INTERRUPTS_FD), '-qtest', 'chardev:interrupts'],
        ...['-qtest-log', 'none'],
        ...options,
      ],
      {
        // Beyond the standard streams a pipe of Node's is a pair of sockets.
        stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
        env: {
          ...process.env,
          QEMU_MODULE_DIR: join(tools.folder, 'usr/lib/x86_64-linux-gnu/qemu'),
        },
      },
    )
    this.input = child.stdin
    this.output = child.stdout
    this.control = new MachineControl(child.stdio[CONTROL_FD])
    this.interrupts = new InterruptLines(child.stdio[INTERRUPTS_FD], this.control)
    let complaint = ''
    child.stderr.setEncoding('utf8').on('data', (text) => {
      complaint += text
    })
    this.exited = new Promise((resolve) => {
      child.on('error', (error) => resolve(`the emulator does not start: ${error.message}`))
      child.on('close', () => resolve(`the guest's machine ended by itself\n${complaint}`))
    })
    this.#kill = disposedAtTheLatestAtExit(() => child.kill('SIGKILL'))
  }

  /** Ends the process and waits until it is gone. */
  async end() {
    this.#kill()
    await this.exited
  }
}
