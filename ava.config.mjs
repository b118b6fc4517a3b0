export default {
  files: ['__test__/**/*.spec.ts'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import', './__test__/register.mjs'],
  // Threads, not processes: an emulated Node cannot start a second one by its own path.
  workerThreads: true,
  timeout: '2m',
}
