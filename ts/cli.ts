#!/usr/bin/env node
/** The command line. Each command is a file of `cli/`; here is what they are called. */

import { Command, CommanderError, Option } from 'commander'
import { version } from '../package.json'
import { demo } from './cli/demo'
import { DOCTOR_HELP, type DoctorOptions, doctor } from './cli/doctor'
import { printable } from './cli/escape'
import { durationMs, durationNs, integerFrom, numberFrom } from './cli/figures'
import { type NowOptions, now } from './cli/now'
import { EXIT, EXIT_HELP, endQuietlyOnBrokenPipe, reportError, reportUsage } from './cli/output'
import { type PtpOptions, ptp } from './cli/ptp'
import { PUBLISH_HELP, type PublishOptions, publish } from './cli/publish'
import { type StatusOptions, status } from './cli/status'
import { WATCH_HELP, type WatchOptions, watch } from './cli/watch'
import { TIMESCALES } from './reading'

const PATH_HELP = 'the page; if left out, $VMCLOCK_PATH, else /dev/vmclock0, else /run/vmclock/page'

// Asked for before the arguments are understood, so that a mistake in them is told in JSON as well.
const asJson = process.argv.includes('--json')

const abi = (): Option =>
  new Option('--abi <document>', 'which document the page follows')
    .choices(['uapi', 'rfc-v4'])
    .default('uapi')

const program = new Command('vmclock')
  .description("Error-bounded time from the hypervisor's vmclock page.")
  .version(version)
  .exitOverride()
  .configureOutput({ outputError: () => {}, writeErr: (text) => process.stderr.write(lines(text)) })
  .showSuggestionAfterError()

command('status', 'show a page, decoded, with what it means')
  .argument('[path]', PATH_HELP)
  .addOption(abi())
  .action((path: string | undefined, options: StatusOptions) => {
    endQuietlyOnBrokenPipe(() => process.exit(EXIT.OK))
    status(path, options)
  })

command('now', 'stamp once: the time, its bound, and the interval that holds the truth')
  .argument('[path]', PATH_HELP)
  .addOption(new Option('--timescale <scale>', 'what to count').choices(TIMESCALES).default('utc'))
  .addOption(abi())
  .option(
    '--assumed-drift-ppm <ppm>',
    'how far the rate may be off on pages that do not say',
    numberFrom(0, 1e6),
  )
  .action((path: string | undefined, options: NowOptions) => {
    endQuietlyOnBrokenPipe(() => process.exit(EXIT.OK))
    now(path, options)
  })

command('watch', 'show the time live, and what happens to the machine and its clock')
  .argument('[path]', PATH_HELP)
  .addOption(abi())
  .option('--interval <duration>', 'how often to look where nothing notifies', durationMs)
  .addHelpText('after', WATCH_HELP)
  .action(async (path: string | undefined, options: WatchOptions) => {
    process.exitCode = await watch(path, options)
  })

command('ptp', "ask a PTP clock of the kernel's: its time, what it can do, the system's clocks")
  .argument('[clock]', 'its name or path, such as vmclock0 or /dev/ptp0; if left out, vmclock0')
  .option('--samples <count>', 'how many samples, 1 to 25', integerFrom(1, 25), 5)
  .addOption(
    new Option('--clock <clock>', 'which system clock to take samples of')
      .choices(['realtime', 'monotonic', 'monotonic-raw'])
      .default('realtime'),
  )
  .action((clock: string | undefined, options: PtpOptions) => {
    endQuietlyOnBrokenPipe(() => process.exit(EXIT.OK))
    ptp(clock, options)
  })

command('doctor', 'find what is missing on this machine, and how to mend it')
  .argument('[path]', PATH_HELP)
  .option('--udev-rule', 'print the udev rules that let every user read the device, and no more')
  .addHelpText('after', DOCTOR_HELP)
  .action((path: string | undefined, options: DoctorOptions) => {
    endQuietlyOnBrokenPipe(() => process.exit(EXIT.OK))
    process.exitCode = doctor(path, options)
  })

command('publish', 'publish a page from this machine, until SIGTERM, SIGINT or quit')
  .argument('[path]', 'the page; if left out, /run/vmclock/page')
  .addOption(
    new Option('--shape <shape>', 'what the page holds')
      .choices(['time', 'marker', 'marker-and-generation'])
      .default('time'),
  )
  .option('--interval <duration>', 'how often to write it, such as 250ms', durationMs)
  .option(
    '--max-error <duration>',
    "state how far this machine's clock may be off, such as 5ms; you answer for it",
    durationNs,
  )
  .option(
    '--tai-minus-utc <seconds>',
    'TAI - UTC, where the kernel was not told',
    integerFrom(10, 255),
  )
  .option('--allow-untrusted-counter', 'publish even where the kernel does not trust the counter')
  .addHelpText('after', PUBLISH_HELP)
  .action(async (path: string | undefined, options: PublishOptions) => {
    process.exitCode = await publish(path, options)
  })

command('demo', 'publish a page in one process, stamp from it in another, and notice events')
  .option('--seconds <seconds>', 'how long', numberFrom(1, 86_400), 5)
  .action(async (options: { json?: boolean; seconds: number }) => {
    process.exitCode = await demo(options)
  })

program.parseAsync().catch((error: unknown) => {
  process.exitCode = exitCodeFor(error)
})

function command(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--json', 'print JSON, one value a line')
    .addHelpText('after', EXIT_HELP)
}

function exitCodeFor(error: unknown): number {
  if (!(error instanceof CommanderError)) return reportError(error, asJson)
  // Help and version were asked for and printed; help was printed because nothing was asked for.
  if (error.exitCode === 0) return EXIT.OK
  if (error.code === 'commander.help') return EXIT.USAGE
  return reportUsage(error.message.replace(/^error: /, ''), asJson)
}

// Help is ours but for what was on the command line.
function lines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}
