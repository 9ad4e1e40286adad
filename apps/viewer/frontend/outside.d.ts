// What comes from other packages, so that the front end can be checked where they are not installed.
declare module '@niivue/niivue' {
  export const Niivue: any
  export const NVImage: any
}
