/** Runs the user's commands after events of the machine. */

import { spawn } from 'node:child_process'

/** Runs one command after each event, one at a time. Events that come meanwhile lead to one more run. */
export class Reaction {
  readonly #command: string
  readonly #report: (text: string) => void
  #running: Promise<void> | undefined
  #again: NodeJS.ProcessEnv | undefined

  constructor(command: string, report: (text: string) => void) {
    this.#command = command
    this.#report = report
  }

  /** Runs the command with these variables in its environment. */
  run(variables: NodeJS.ProcessEnv): void {
    if (this.#running !== undefined) {
      this.#again = variables
      return
    }
    this.#running = this.#once(variables).then(() => {
      this.#running = undefined
      const again = this.#again
      this.#again = undefined
      if (again !== undefined) this.run(again)
    })
  }

  /** Resolves when no run is left. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  #once(variables: NodeJS.ProcessEnv): Promise<void> {
    return new Promise((resolve) => {
      const failed = (why: string): void => {
        this.#report(`the command ${JSON.stringify(this.#command)} ${why}`)
        resolve()
      }
      // Its output goes to standard error: standard output has this command's own lines.
      const child = spawn('/bin/sh', ['-c', this.#command], {
        stdio: ['ignore', 2, 2],
        env: { ...process.env, ...variables },
      })
      child.once('error', (error) => failed(`did not start: ${error.message}`))
      child.once('exit', (code, signal) => {
        if (code === 0) resolve()
        else failed(signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`)
      })
    })
  }
}
