/** `using` where the runtime has it. */

/**
 * `Symbol.dispose`; on a runtime without it, the symbol that its polyfills and compilers' helpers
 * agree on.
 */
export const dispose: typeof Symbol.dispose =
  Symbol.dispose ?? (Symbol.for('Symbol.dispose') as typeof Symbol.dispose)
