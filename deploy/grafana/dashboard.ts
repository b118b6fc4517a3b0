/** The dashboard of the metrics of `vmclock metrics`. `node tools/dashboard.mjs` writes dashboard.json from it. */

import {
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  type Dashboard,
  type FieldConfigSource,
  LegendDisplayMode,
  type Panel,
  PercentChangeColorMode,
  SortOrder,
  ThresholdsMode,
  TooltipDisplayMode,
  VariableRefresh,
  VizOrientation,
} from '@grafana/schema'
import type { Options as StatOptions } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen'
import type {
  FieldConfig as TimeSeriesConfig,
  Options as TimeSeriesOptions,
} from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen'

const DATASOURCE = { type: 'prometheus', uid: '$datasource' }
const WIDTH = 24

interface Query {
  readonly expr: string
  /** The text of the legend; the instance's name if left out. */
  readonly legend?: string
}

interface Shown {
  readonly title: string
  readonly description: string
  readonly queries: readonly Query[]
  readonly width: number
}

/** Of one instance in the selection. Each query begins with a metric of this package. */
function of(metric: string, labels = ''): string {
  return `${metric}{instance=~"$instance"${labels}}`
}

function panel(
  type: 'stat' | 'timeseries',
  { title, description, queries }: Shown,
  more: Pick<Panel, 'fieldConfig' | 'options'>,
): Panel {
  return {
    type,
    title,
    description,
    datasource: DATASOURCE,
    targets: queries.map(({ expr, legend = '{{instance}}' }, index) => ({
      refId: String.fromCharCode('A'.charCodeAt(0) + index),
      datasource: DATASOURCE,
      expr,
      legendFormat: legend,
    })),
    ...more,
  }
}

/** A count of machines that is green at 0, and of this colour above. */
function count(title: string, description: string, expr: string, colour: string): Panel {
  const options: StatOptions = {
    reduceOptions: { calcs: ['lastNotNull'], values: false },
    orientation: VizOrientation.Auto,
    colorMode: BigValueColorMode.Background,
    graphMode: BigValueGraphMode.None,
    justifyMode: BigValueJustifyMode.Auto,
    percentChangeColorMode: PercentChangeColorMode.Standard,
    showPercentChange: false,
    textMode: BigValueTextMode.Value,
    wideLayout: true,
  }
  const steps = [
    { value: null, color: 'green' },
    { value: 1, color: colour },
  ]
  const fieldConfig: FieldConfigSource = {
    defaults: { thresholds: { mode: ThresholdsMode.Absolute, steps } },
    overrides: [],
  }
  const shown = { title, description, queries: [{ expr, legend: title }], width: 4 }
  return panel('stat', shown, { fieldConfig, options: { ...options } })
}

function graph(shown: Shown, unit: string): Panel {
  const options: TimeSeriesOptions = {
    legend: {
      showLegend: true,
      displayMode: LegendDisplayMode.List,
      placement: 'bottom',
      calcs: [],
    },
    tooltip: { mode: TooltipDisplayMode.Multi, sort: SortOrder.Descending },
  }
  const custom: TimeSeriesConfig = { lineWidth: 1, fillOpacity: 0, spanNulls: false }
  const fieldConfig: FieldConfigSource = {
    defaults: { unit, custom: { ...custom } },
    overrides: [],
  }
  return panel('timeseries', shown, { fieldConfig, options: { ...options } })
}

const counts: readonly Panel[] = [
  count(
    'Unreadable',
    'Machines whose page cannot be read.',
    `count(${of('vmclock_up')} == 0) or vector(0)`,
    'red',
  ),
  count(
    'Without time',
    'Machines whose page can be read and gives no time.',
    `count(${of('vmclock_up')} == 1 and ${of('vmclock_has_time')} == 0) or vector(0)`,
    'red',
  ),
  count(
    'Without a bound',
    'Machines whose time may be off by any amount.',
    `count(${of('vmclock_has_time')} == 1 and ${of('vmclock_has_bound')} == 0) or vector(0)`,
    'orange',
  ),
  count(
    'Publisher gone',
    'Machines whose published page nobody updates.',
    `count(${of('vmclock_publisher_alive')} == 0) or vector(0)`,
    'red',
  ),
  count(
    'Contradiction',
    'Machines whose page and system clock differ by more than both bounds.',
    `count(abs(${of('vmclock_system_offset_seconds')}) > ${of('vmclock_system_offset_max_error_seconds')} + ${of('vmclock_system_clock_max_error_seconds')}) or vector(0)`,
    'red',
  ),
  count(
    'Maintenance',
    'Machines for which the provider announced a disruption.',
    `count(${of('vmclock_disruption_soon')} == 1 or ${of('vmclock_disruption_imminent')} == 1) or vector(0)`,
    'blue',
  ),
]

const graphs: readonly Shown[] = [
  {
    title: 'Bound',
    description: 'How far the time is from the truth at most. A gap means that nobody knows.',
    queries: [{ expr: of('vmclock_max_error_seconds') }],
    width: 12,
  },
  {
    title: 'System clock minus page',
    description: 'Their difference. It should be within the bounds of both.',
    queries: [{ expr: of('vmclock_system_offset_seconds') }],
    width: 12,
  },
  {
    title: 'Age of the page',
    description:
      'Time since the last update. A publisher updates its page once per second or more often.',
    queries: [{ expr: of('vmclock_age_seconds') }],
    width: 12,
  },
  {
    title: 'Bound of the system clock',
    description: "The kernel's maximum error, as its time daemon reported it.",
    queries: [{ expr: of('vmclock_system_clock_max_error_seconds') }],
    width: 12,
  },
]

const events: readonly Shown[] = [
  {
    title: 'Disruptions and restores',
    description:
      'Live migrations and other disruptions, and restores and clones, in each 5 minutes.',
    queries: [
      {
        expr: `increase(${of('vmclock_disruptions_total')}[5m])`,
        legend: '{{instance}} disruption',
      },
      {
        expr: `increase(${of('vmclock_generation_changes_total')}[5m])`,
        legend: '{{instance}} restore',
      },
    ],
    width: 12,
  },
  {
    title: 'Reasons for a missing bound',
    description: 'Machines by reason, and machines without time by the code of the error.',
    queries: [
      { expr: `count by (reason) (${of('vmclock_no_bound_info')})`, legend: '{{reason}}' },
      { expr: `count by (code) (${of('vmclock_no_time_info')})`, legend: '{{code}}' },
    ],
    width: 12,
  },
]

/** Places panels in rows of equal height, from left to right. */
function placed(
  panels: ReadonlyArray<readonly [panel: Panel, width: number, height: number]>,
): Panel[] {
  let x = 0
  let y = 0
  return panels.map(([shown, w, h], index) => {
    if (x + w > WIDTH) throw new Error('a row is too wide')
    const gridPos = { x, y, w, h }
    x = (x + w) % WIDTH
    if (x === 0) y += h
    return { ...shown, id: index + 1, gridPos }
  })
}

export const dashboard: Dashboard = {
  uid: 'vmclock',
  title: 'vmclock',
  description: 'Bound, source and disruptions of the vmclock pages of a fleet',
  tags: ['vmclock', 'time'],
  schemaVersion: 42,
  editable: true,
  refresh: '30s',
  time: { from: 'now-6h', to: 'now' },
  timezone: 'browser',
  templating: {
    list: [
      { type: 'datasource', name: 'datasource', label: 'Prometheus', query: 'prometheus' },
      {
        type: 'query',
        name: 'instance',
        label: 'Machine',
        datasource: DATASOURCE,
        query: 'label_values(vmclock_up, instance)',
        refresh: VariableRefresh.onTimeRangeChanged,
        multi: true,
        includeAll: true,
        current: { text: 'All', value: '$__all' },
      },
    ],
  },
  panels: placed([
    ...counts.map((shown) => [shown, 4, 4] as const),
    ...graphs.map((shown) => [graph(shown, 's'), shown.width, 8] as const),
    ...events.map((shown) => [graph(shown, 'short'), shown.width, 8] as const),
  ]),
}
