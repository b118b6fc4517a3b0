/** The options by which commands choose a page and read it. */

import { type Command, Option } from 'commander'
import { VmClock } from '../clock'
import { TIMESCALES, type Timescale } from '../reading'
import { SOURCE_CHOICES, type SourceChoice } from '../time-source'
import { durationMs, durationNs, numberFrom } from './figures'
import { collectUid, trustedUids } from './trusted-uids'

/** Options of all commands that read a page. */
export interface PageOptions {
  readonly source?: 'auto' | 'page' | 'process'
  readonly from?: SourceChoice
  readonly abi: 'uapi' | 'rfc-v4'
  readonly hostError?: bigint
  readonly assumedDrift?: number
  readonly assumedError?: bigint
  readonly maxAge?: number
  readonly errorLimit?: bigint
  readonly allowUnguarded?: boolean
  readonly allowUntrustedCounter?: boolean
  readonly trustedUid?: readonly number[]
}

/** Options of all commands that read the time of a page. */
export interface ReadingOptions extends PageOptions {
  readonly timescale: Timescale | 'page'
  readonly requireSynchronized?: boolean
}

/** Describes the argument that names the page. */
export const PATH_HELP =
  "the page (default: $VMCLOCK_PATH, else the best of the hypervisor's, a publisher's and this process's own)"

/** Adds the options of {@link PageOptions}. */
export function addPageOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--source <pages>', "pages to choose from; process: this process's own").choices([
        'auto',
        'page',
        'process',
      ]),
    )
    .addOption(
      new Option(
        '--from <source>',
        'source that the time must come from; refused with a path',
      ).choices(SOURCE_CHOICES),
    )
    .addOption(
      new Option('--abi <document>', 'document that defines the page layout')
        .choices(['uapi', 'rfc-v4'])
        .default('uapi'),
    )
    .option(
      '--host-error <duration>',
      "error of the host's clock, for the page that this process makes, such as 100us; you answer for it",
      durationNs,
    )
    .option(
      '--assumed-drift <ppm>',
      'maximum rate error to assume if the page states none, in parts per million',
      numberFrom(0, 1e6),
    )
    .option(
      '--assumed-error <duration>',
      'maximum error of the time to assume if the page of another maker states none, such as 50us; you answer for it',
      durationNs,
    )
    .option(
      '--max-age <duration>',
      "refuse time from a publisher's page that was last updated longer ago, such as 3s",
      durationMs('1ms', '277h'),
    )
    .option(
      '--error-limit <duration>',
      'refuse time whose bound is greater, such as 5ms, or that has none',
      durationNs,
    )
    .option(
      '--trusted-uid <uid>',
      'user who may own the page, besides root and you; repeatable, also $VMCLOCK_TRUSTED_UIDS',
      collectUid,
    )
    .option(
      '--allow-unguarded',
      'give the bound even if nobody here would notice a migration; you answer for it',
    )
    .option(
      '--allow-untrusted-counter',
      'make a page in this process even if the kernel does not trust the counter',
    )
}

/** Adds the options of {@link ReadingOptions}. */
export function addReadingOptions(command: Command): Command {
  return addPageOptions(command)
    .addOption(
      new Option('--timescale <scale>', "timescale of the time shown; page: the page's own")
        .choices([...TIMESCALES, 'page'])
        .default('utc'),
    )
    .option('--require-synchronized', 'refuse the time of a page whose clock is free-running')
}

/** Opens a page as the options say. */
export function openClock(path: string | undefined, options: ReadingOptions): VmClock {
  return VmClock.open(path, {
    source: options.source,
    from: options.from,
    hostErrorNs: options.hostError,
    timescale: options.timescale,
    abi: options.abi,
    assumedDriftPpm: options.assumedDrift,
    assumedErrorNs: options.assumedError,
    requireSynchronized: options.requireSynchronized,
    maxAgeMs: options.maxAge,
    errorLimitNs: options.errorLimit,
    allowUnguarded: options.allowUnguarded,
    allowUntrustedCounter: options.allowUntrustedCounter,
    trustedUids: trustedUids(options.trustedUid),
    // The variable VMCLOCK_CALLS is for programs that stamp.
    calls: 'node-api',
  })
}
