/** Findings with their calibrated probability, what each modality adds to it, and a way to the evidence. */

import { h } from './dom.js'
import { say } from './together.js'

export class Findings {
  /** @param {HTMLElement} root @param {import('../contract.js').FindingsData} data */
  constructor(root, data) {
    this.root = h('div', { class: 'findings' })
    root.append(this.root)
    this.update(data)
  }

  /** @param {import('../contract.js').FindingsData} data */
  update({ findings, lesions, colours, words }) {
    const reach = Math.max(0.05, ...findings.map((f) => Math.max(sum(f, 1), sum(f, -1))))
    const head = h('div', { class: 'row head' }, h('span', {}, words.finding), h('span', {}, words.probability), h('span', {}), h('span', {}, words.contribution,
      ' ', Object.entries(colours).map(([m, c]) => h('i', { style: { color: c } }, `■${m} `))))
    const rows = findings.map((f) => h('button', { class: `row ${f.assessed ? '' : 'faded'}`, 'data-finding': f.id, title: f.hint, onclick: () => f.place && say('jump', f.place) },
      h('span', { class: 'name' }, f.name, f.place ? h('em', {}, ' ◎') : ''),
      h('span', { class: 'bar' },
        h('b', { style: { width: `${100 * f.probability}%` } }),
        f.interval && h('u', { style: { left: `${100 * f.interval[0]}%`, width: `${100 * (f.interval[1] - f.interval[0])}%` } })),
      h('span', { class: 'number' }, f.assessed ? f.said : words.not_assessed),
      h('span', { class: 'shapley' }, ...bars(f.contribution, reach, colours))))
    const table = lesions.length && h('div', { class: 'lesions' }, h('h4', {}, words.lesions), lesions.map((x) => h('button', { class: 'row lesion', 'data-lesion': x.id, onclick: () => say('jump', x.place) },
      h('span', { class: 'name' }, x.name), h('span', {}, x.size), h('span', { class: 'number' }, x.said), h('span', {}, x.where))))
    this.root.replaceChildren(head, ...rows, h('p', { class: 'legend' }, words.findings_legend), ...(table ? [table] : []))
  }

  stand(parent) {
    parent.append(this.root)
  }

  close() {
    this.root.remove()
  }
}

function sum(finding, sign) {
  return Object.values(finding.contribution).reduce((a, v) => a + (v * sign > 0 ? Math.abs(v) : 0), 0)
}

/** Bars from the middle: what lowers the probability to the left, what raises it to the right. */
function bars(contribution, reach, colours) {
  const ends = { 1: 50, '-1': 50 }
  return Object.entries(contribution).map(([m, v]) => {
    const size = (48 * Math.abs(v)) / reach
    const left = v >= 0 ? ends[1] : ends[-1] - size
    if (v >= 0) ends[1] += size
    else ends[-1] -= size
    return h('b', { title: `${m} ${v >= 0 ? '+' : '−'}${Math.abs(v).toFixed(3)}`, style: { left: `${left}%`, width: `${size}%`, background: colours[m] ?? '#999' } })
  })
}
