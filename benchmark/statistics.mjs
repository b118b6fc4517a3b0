// Medians and quartiles.

// Returns the figure below which this share of the figures lies.
function quantile(figures, share) {
  const sorted = [...figures].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
}

/** Returns the median. */
export function median(figures) {
  return quantile(figures, 0.5)
}

/** Returns the lower and the upper quartile. */
export function quartiles(figures) {
  return [quantile(figures, 0.25), quantile(figures, 0.75)]
}
