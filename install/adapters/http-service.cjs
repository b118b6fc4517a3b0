// A service with OpenTelemetry's instrumentation of http. It answers one request of its own, within a span.

const { api, exporterClass, instrumentations, newProcessor, newProvider } = require('./sdk.cjs')

const { HttpInstrumentation, registerInstrumentations } = instrumentations()
const Exporter = exporterClass('http')
const exporter = new Exporter({ url: process.env.VMCLOCK_RECEIVER })
const provider = newProvider(newProcessor('Batch', exporter))
provider.register()
registerInstrumentations({ instrumentations: [new HttpInstrumentation()] })

const http = require('node:http')

const server = http.createServer((_request, response) => response.end('hello'))
server.listen(0, '127.0.0.1', () => {
  api.trace.getTracer('service').startActiveSpan('manual', (span) => {
    const { port } = server.address()
    http.get({ host: '127.0.0.1', port, agent: false }, (response) => {
      response.resume()
      response.on('end', () => {
        span.end()
        server.close(async () => {
          await provider.shutdown()
          console.log(JSON.stringify({ traceId: span.spanContext().traceId }))
        })
      })
    })
  })
})
