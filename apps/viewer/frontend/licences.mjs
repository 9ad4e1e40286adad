// Writes built/LICENSES.txt: name, version, licence and its text for every package whose code lies in built/.
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'

const BSD_2 = `Redistribution and use in source and binary forms, with or without modification, are permitted provided that the following conditions are met:
1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following disclaimer in the documentation and/or other materials provided with the distribution.
THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.`
const lock = JSON.parse(readFileSync('package-lock.json')).packages
const parts = Object.entries(lock)
  .filter(([path, p]) => path && !p.dev && !p.optional)
  .map(([path, p]) => {
    const name = path.replace('node_modules/', '')
    const file = existsSync(path) && readdirSync(path).find((f) => /^licen[cs]e/i.test(f))
    const own = JSON.parse(readFileSync(`${path}/package.json`))
    const author = typeof own.author === 'object' ? own.author.name : own.author
    const text = file ? readFileSync(`${path}/${file}`, 'utf8') : p.license === 'BSD-2-Clause' ? `Copyright (c) ${author || name + ' contributors'}. All rights reserved.\n\n${BSD_2}` : `Copyright (c) ${author || name + ' contributors'}. Licence: ${p.license}.`
    return `${name} ${p.version} (${p.license})\n\n${text.trim()}`
  })
writeFileSync('built/LICENSES.txt', parts.join(`\n\n${'-'.repeat(80)}\n\n`) + '\n')
