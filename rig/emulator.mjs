// One emulator process. Its standard streams are the guest's console. Two unnamed sockets control the
// machine and raise its interrupts. The emulator ends with this process, even if this process is killed.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { MachineControl } from './qmp.mjs'
import { InterruptLines } from './qtest.mjs'
import { disposedAtTheLatestAtExit } from './scratch.mjs'

const CONTROL_FD = 3
const INTERRUPTS_FD = 4

export class Emulator {
  #kill
  /** The streams of the console: `input` goes to the guest, `output` comes from it. */
  input
  output
  /** Stops, saves and continues the machine: a `MachineControl`. */
  control
  /** Raises the machine's interrupts: an `InterruptLines`. */
  interrupts
  /** Resolves with the reason when the process has ended and its output is complete. */
  exited

  /** Starts the emulator with these options, besides those for the console and the sockets. */
  constructor(tools, name, options) {
    const socket = (id, fd) => ['-chardev', `socket,id=${id},fd=${fd}`]
    const child = spawn(
      'setpriv',
      [
        ...['--pdeathsig', 'KILL', tools.program(name)],
        ...['-L', join(tools.directory, 'usr/share/qemu')],
        ...['-L', join(tools.directory, 'usr/share/seabios')],
        ...['-nodefaults', '-display', 'none', '-no-reboot'],
        ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
        ...[...socket('control', CONTROL_FD), '-mon', 'chardev=control,mode=control'],
        ...[...socket('interrupts', INTERRUPTS_FD), '-qtest', 'chardev:interrupts'],
        ...['-qtest-log', 'none'],
        ...options,
      ],
      {
        // For other than the standard streams, Node's 'pipe' is a pair of sockets.
        stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
        env: {
          ...process.env,
          QEMU_MODULE_DIR: join(tools.directory, 'usr/lib/x86_64-linux-gnu/qemu'),
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

  /** Ends the process, and waits for its end. */
  async end() {
    this.#kill()
    await this.exited
  }
}
