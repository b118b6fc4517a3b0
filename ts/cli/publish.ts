/** `vmclock publish`: keeps a page up to date until it is stopped. */

import { VmClockError } from '../errors'
import { type Maintenance, type PageShape, VmClockPublisher } from '../publisher'
import type { SourceChoice } from '../time-source'
import { CommandInput } from './command-input'
import { json } from './escape'
import { distance } from './figures'
import { coloursFor, line, reportError } from './output'
import { openDirectoryWarning, PublisherAccess } from './publisher-access'
import { PublisherBound } from './publisher-bound'
import { PublisherSource } from './publisher-source'
import { onStopSignal } from './signals'
import { whenOutputIsLost } from './streams'
import { notifySupervisor } from './supervisor'

/** Options of `vmclock publish`. */
export interface PublishOptions {
  readonly json?: boolean
  readonly shape: PageShape
  readonly generation: 'auto' | 'yes' | 'no'
  readonly from: SourceChoice
  readonly interval?: number
  readonly maxError?: bigint
  readonly hostError?: bigint
  readonly maxErrorAfterMigration?: boolean
  readonly allowUnguarded?: boolean
  readonly keepOnExit?: boolean
  readonly taiMinusUtc?: number
  readonly wander?: number
  readonly offset?: bigint
  readonly mode?: number
  readonly allowUntrustedCounter?: boolean
}

/** The end of `vmclock publish --help`. */
export const PUBLISH_HELP = `
Shapes:
  time                   time and disruption marker, from this machine's counter and clock
  marker                 only the disruption marker, like the pages of EC2 and QEMU
  marker-and-generation  disruption marker and generation counter, like the pages of Firecracker

Commands on standard input, one per line (the end of input does not stop publishing):
  disrupt                     change the disruption marker, as a migration does
  generation                  change the generation counter, as the restore of a snapshot does;
                              a page with time has one as --generation says
  maintenance none|soon|imminent
                              announce a disruption, or withdraw the announcement
  status                      print the number of updates, the CPU time, and the reason for a missing
                              bound
  quit                        stop

The output is one line when the page is published, and one for each command that succeeded. Another line
says when the page states a bound again, or no bound any more, and why; another when its time comes from
another source, and why not from a better one.
SIGTERM, SIGINT, SIGHUP and quit mark the page unreliable; the exit code is 0, and the file remains.
With --keep-on-exit they leave the page as it is, and the next publisher takes it over. Readers continue
with a growing bound, and without one from 1,000 s after the last update on.
--max-error holds until the machine is disrupted. From then on it is void, also for later publishers of
this page, until the machine boots. To state it afresh, remove the page or publish at another path.`

const CHECK_MS = 500

/** Publishes a page until it is stopped, and returns the exit code. */
export function publish(path: string | undefined, options: PublishOptions): Promise<number> {
  requireConsistent(options)
  // Publishing goes on if nobody reads the output, or if it cannot be written. The latter is said once.
  let isSaid = false
  whenOutputIsLost((error) => {
    if (error !== undefined && !isSaid) reportError(error, options.json === true)
    isSaid = true
  })
  // A signal that arrives before the page is published must not end the process: `serve` handles it.
  onStopSignal(() => {})
  const publisher = VmClockPublisher.create(path, {
    shape: options.shape,
    generation: options.generation === 'auto' ? 'auto' : options.generation === 'yes',
    from: options.from,
    intervalMs: options.interval,
    maxErrorNs: options.maxError,
    hostErrorNs: options.hostError,
    maxErrorAfterMigration: options.maxErrorAfterMigration,
    allowUnguarded: options.allowUnguarded,
    keepOnExit: options.keepOnExit,
    taiMinusUtcSec: options.taiMinusUtc,
    wanderPpm: options.wander,
    offsetNs: options.offset,
    mode: options.mode,
    allowUntrustedCounter: options.allowUntrustedCounter,
  })
  warn(openDirectoryWarning(publisher.path))
  return serve(publisher, options)
}

// Names the flags: the publisher's own refusal names its options.
function requireConsistent({ shape, generation }: PublishOptions): void {
  const isWrong =
    (shape === 'marker' && generation === 'yes') ||
    (shape === 'marker-and-generation' && generation === 'no')
  if (!isWrong) return
  throw new VmClockError(
    'ERR_VMCLOCK_INVALID_ARGUMENT',
    `--generation ${generation} contradicts --shape ${shape}`,
    { remedy: `leave out --generation, which decides only for --shape time` },
  )
}

function warn(warning: string | undefined): void {
  if (warning !== undefined) process.stderr.write(`warning: ${warning}\n`)
}

function serve(publisher: VmClockPublisher, options: PublishOptions): Promise<number> {
  const asJson = options.json === true
  const bound = new PublisherBound(publisher.boundUnavailable)
  const source = new PublisherSource(publisher.timeSource)
  const access = new PublisherAccess(publisher.path)
  return new Promise((resolve) => {
    let ended = false
    const end = (code: number): void => {
      if (ended) return
      ended = true
      notifySupervisor('STOPPING=1', asJson)
      clearInterval(check)
      input.close()
      if (process.connected) process.disconnect()
      try {
        publisher.close()
        print(asJson, 'stopped', { path: publisher.path })
        resolve(code)
      } catch (error) {
        resolve(reportError(error, asJson))
      }
    }
    // This timer also keeps the process alive after the end of standard input.
    const check = setInterval(() => {
      const error = failureOf(publisher)
      if (error !== undefined) return end(reportError(error, asJson))
      warn(access.observe())
      const event = bound.observe(publisher.boundUnavailable, process.hrtime.bigint())
      if (event !== undefined) print(asJson, event, bound.fields(asJson))
      if (source.observe(publisher.timeSource)) print(asJson, 'source', source.fields(asJson))
    }, CHECK_MS)
    const input = new CommandInput((text) => {
      if (text.trim() === 'quit') end(0)
      else execute(publisher, { bound, source }, text.trim(), asJson)
    })
    onStopSignal(() => end(0))
    print(asJson, 'published', {
      path: publisher.path,
      shape: options.shape,
      ...source.fields(asJson),
      ...guardFields(publisher, asJson),
      ...bound.fields(asJson),
    })
    notifySupervisor('READY=1', asJson)
    input.open()
    // `connected` is undefined if this process was started without an IPC channel. A parent with a
    // channel controls this process, which ends with it; it may be gone already.
    if (process.connected) process.once('disconnect', () => end(0))
    if (process.connected === false) end(0)
  })
}

// Nobody notices a migration if the device cannot be looked at.
function guardFields(publisher: VmClockPublisher, asJson: boolean): Record<string, unknown> {
  const { guardUnavailable } = publisher
  if (guardUnavailable === undefined) return {}
  if (asJson) return { guardUnavailable }
  const { reason, remedy } = guardUnavailable
  return { 'no guard:': `${reason} (${remedy})` }
}

function failureOf(publisher: VmClockPublisher): VmClockError | undefined {
  const { failure, path } = publisher
  if (failure === undefined) return undefined
  return new VmClockError('ERR_VMCLOCK_SYSTEM', `${path}: publishing stopped: ${failure}`, {
    remedy: 'fix that and start it again',
    path,
  })
}

/** The last looks at the publisher. */
interface Seen {
  readonly bound: PublisherBound
  readonly source: PublisherSource
}

// Executes a command from standard input and prints its answer or its error.
function execute(publisher: VmClockPublisher, seen: Seen, text: string, asJson: boolean): void {
  try {
    const answer = answerTo(publisher, seen, text, asJson)
    if (answer !== undefined) print(asJson, ...answer)
  } catch (error) {
    reportError(error, asJson)
  }
}

/** The output for a command that succeeded. */
type Answer = readonly [event: string, details: Record<string, unknown>]

function answerTo(
  publisher: VmClockPublisher,
  seen: Seen,
  text: string,
  asJson: boolean,
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
    case 'status': {
      const { path, updates, cpuTimeNs } = publisher
      const cpuTime = asJson ? { cpuTimeNs } : { cpuTime: distance(cpuTimeNs) }
      const shown = { ...seen.source.fields(asJson), ...seen.bound.fields(asJson) }
      return ['status', { path, updates, ...cpuTime, ...shown }]
    }
    default:
      throw new VmClockError(
        'ERR_VMCLOCK_INVALID_ARGUMENT',
        `there is no command ${JSON.stringify(text.slice(0, 80))}`,
        { remedy: 'use disrupt, generation, maintenance none|soon|imminent, status or quit' },
      )
  }
}

function print(asJson: boolean, ...[event, details]: Answer): void {
  if (asJson) {
    line(json({ event, ...details }))
    return
  }
  const words = Object.entries(details)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} ${json(String(value)).slice(1, -1)}`)
  const colours = coloursFor(process.stdout)
  line([colours.bold(event), ...words].join('  '))
}
