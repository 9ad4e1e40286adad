/** Drawn signs for what no font is sure to have. */

const PATHS = {
  link: 'M6 4H4a3 3 0 0 0 0 8h2M10 4h2a3 3 0 0 1 0 8h-2M5 8h6',
  crosshair: 'M8 1v5M8 10v5M1 8h5M10 8h5',
  reference: 'M2 2h12v12H2zM2 11L14 5',
  full: 'M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4',
  flip: 'M8 1v14M6 4L2 8l4 4zM10 4l4 4-4 4',
  rotate: 'M13 8a5 5 0 1 1-2-4M11 1v3H8',
  second: 'M2 5h8v8H2zM6 5V2h8v8h-4',
  invert: 'M8 2a6 6 0 0 0 0 12zM8 2a6 6 0 0 1 0 12',
}

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path')
  for (const [k, v] of Object.entries({ viewBox: '0 0 16 16', width: '14', height: '14', 'aria-hidden': 'true' })) svg.setAttribute(k, v)
  for (const [k, v] of Object.entries({ d: PATHS[name], fill: 'none', stroke: 'currentColor', 'stroke-width': '1.6' })) path.setAttribute(k, v)
  svg.append(path)
  return svg
}
