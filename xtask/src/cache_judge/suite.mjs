// Runs `http-cache-tests`: `node suite.mjs serve PORT` is its origin, on loopback; `node suite.mjs run URL` its client. The client
// writes a line per test: group, kind, id, verdict and what the suite says of it, with tabs between. The verdicts are the suite's own.
import http from 'http'
import process from 'process'

const [what, where] = process.argv.slice(2)
const suite = './node_modules/http-cache-tests'

if (what === 'serve') {
  const listen = http.Server.prototype.listen
  http.Server.prototype.listen = function (port) {
    return listen.call(this, port, '127.0.0.1')
  }
  process.env.npm_config_protocol = 'http'
  process.env.npm_config_port = where
  process.env.npm_config_pidfile = 'origin.pid'
  await import(`${suite}/server/server.mjs`)
} else {
  const { runTests, getResults } = await import(`${suite}/client/runner.mjs`)
  const { determineTestResult } = await import(`${suite}/lib/display.mjs`)
  const tests = (await import(`${suite}/tests/index.mjs`)).default
  tests.push((await import(`${suite}/tests/surrogate-control.mjs`)).default)
  const fetch = (await import('node-fetch')).default
  const words = {
    '✅': 'pass',
    '⛔️': 'fail',
    '⚠️': 'fail',
    Y: 'yes',
    N: 'no',
    '🔹': 'setup',
    '⁉️': 'harness',
    '⚪️': 'dependency',
    '↻': 'retry',
    '-': 'untested'
  }
  await runTests(tests, fetch, false, where)
  const results = getResults()
  for (const { id: group, tests: of } of tests) {
    for (const test of of) {
      if (test.browser_only === true) continue
      const word = words[determineTestResult(tests, test.id, results)[2]]
      const said = Array.isArray(results[test.id]) ? results[test.id].join(': ') : ''
      console.log([group, test.kind || 'required', test.id, word, said.replace(/\s+/g, ' ')].join('\t'))
    }
  }
}
