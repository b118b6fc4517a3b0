/** `vmclock publish`: keeps a page until it is told to stop. */

import { createInterface } from 'node:readline'
import { VmClockError } from '../errors'
import { type Maintenance, type PageShape, VmClockPublisher } from '../publisher'
import { json } from './escape'
import { distance } from './figures'
import { coloursFor, endQuietlyOnBrokenPipe, line, reportError } from './output'

/** What `vmclock publish` was told. */
export interface PublishOptions {
  readonly json?: boolean
  readonly shape: PageShape
  readonly interval?: number
  readonly maxError?: bigint
  readonly taiMinusUtc?: number
  readonly allowUntrustedCounter?: boolean
}

/** Said in `vmclock publish --help`. */
export const PUBLISH_HELP = `
Shapes:
  time                   time and marker, from this machine's counter and clock
  marker                 the disruption marker only, as EC2 and QEMU give
  marker-and-generation  disruption marker and generation counter, as Firecracker gives

Lines on standard input (its end stops nothing):
  disrupt                     change the disruption marker, as a migration does
  generation                  change the generation counter, as a restored snapshot does
  maintenance none|soon|imminent
                              announce a disruption, or take it back
  status                      say how publishing goes
  quit                        stop

One line is printed when the page stands, and one for each line of input that was carried out.
SIGTERM, SIGINT, SIGHUP and quit mark the page unreliable and end with 0; the page's file stays.`

const FAILURE_CHECK_MS = 500
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const

/** Publishes until it is stopped; gives the exit code. */
export function publish(path: string | undefined, options: PublishOptions): Promise<number> {
  // A reader that goes away takes our words with it, not the page.
  endQuietlyOnBrokenPipe(() => {})
  // From before the page stands: a signal in between is handled when it does.
  const ignore = (): void => {}
  for (const signal of SIGNALS) process.on(signal, ignore)
  const publisher = VmClockPublisher.create(path, {
    shape: options.shape,
    intervalMs: options.interval,
    maxErrorNs: options.maxError,
    taiMinusUtcSec: options.taiMinusUtc,
    allowUntrustedCounter: options.allowUntrustedCounter,
  })
  return new Promise((resolve) => {
    let ended = false
    const end = (code: number): void => {
      if (ended) return
      ended = true
      clearInterval(check)
      lines.close()
      process.stdin.destroy()
      if (process.connected) process.disconnect()
      try {
        publisher.close()
        tell(options, 'stopped', { path: publisher.path })
        resolve(code)
      } catch (error) {
        resolve(reportError(error, options.json === true))
      }
    }
    // It also keeps the process alive once standard input has ended.
    const check = setInterval(() => {
      const { failure } = publisher
      if (failure === undefined) return
      const error = new VmClockError(
        'ERR_VMCLOCK_SYSTEM',
        `${publisher.path}: publishing had to stop: ${failure}; mend that and start it again`,
        { path: publisher.path },
      )
      end(reportError(error, options.json === true))
    }, FAILURE_CHECK_MS)
    const lines = createInterface({ input: process.stdin, terminal: false })
    lines.on('line', (text) => {
      if (text.trim() === 'quit') return end(0)
      try {
        const answer = carryOut(publisher, text.trim(), options)
        if (answer !== undefined) tell(options, ...answer)
      } catch (error) {
        reportError(error, options.json === true)
      }
    })
    // Standard input that cannot be read is one that says nothing.
    process.stdin.on('error', () => {})
    for (const signal of SIGNALS) process.on(signal, () => end(0)).off(signal, ignore)
    // Whoever started this with a channel and is gone cannot stop it any more.
    if (process.connected) process.once('disconnect', () => end(0))
    tell(options, 'published', { path: publisher.path, shape: options.shape })
    // It may be gone already. Without a channel this is undefined.
    if (process.connected === false) end(0)
  })
}

/** What is said about a line that was carried out. */
type Answer = readonly [event: string, details: Record<string, unknown>]

function carryOut(
  publisher: VmClockPublisher,
  text: string,
  options: PublishOptions,
): Answer | undefined {
  const [command, argument] = text.split(/\s+/, 2)
  switch (command) {
    case '':
      return undefined
    case 'disrupt':
      publisher.disrupt()
      return ['disrupted', {}]
    case 'generation':
      publisher.bumpGeneration()
      return ['generation-changed', {}]
    case 'maintenance':
      publisher.setMaintenance((argument ?? '') as Maintenance)
      return ['maintenance', { announced: argument }]
    case 'status':
      return [
        'status',
        {
          path: publisher.path,
          updates: publisher.updates,
          cpuTime: options.json ? undefined : distance(publisher.cpuTimeNs),
          cpuTimeNs: options.json ? publisher.cpuTimeNs : undefined,
        },
      ]
    default:
      throw new VmClockError(
        'ERR_VMCLOCK_INVALID_ARGUMENT',
        `there is no command ${JSON.stringify(text.slice(0, 80))}; there are: disrupt, generation, maintenance none|soon|imminent, status, quit`,
      )
  }
}

function tell(options: PublishOptions, ...[event, details]: Answer): void {
  if (options.json) {
    line(json({ event, ...details }))
    return
  }
  const words = Object.entries(details)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} ${json(String(value)).slice(1, -1)}`)
  const colours = coloursFor(process.stdout)
  line([colours.bold(event), ...words].join('  '))
}
