// node's ways to files: sync, callbacks, promises, streams, readdir with types, realpath, copyFile, open descriptors.
const fs = require('fs'), path = require('path'), crypto = require('crypto'), {spawnSync} = require('child_process');
const [root, scratch] = process.argv.slice(2);
const md5 = (b) => crypto.createHash('md5').update(b).digest('hex');
const out = [];
const say = (...a) => out.push(a.join(' '));
const walk = (dir) => fs.readdirSync(dir, {withFileTypes: true}).sort((a, b) => a.name < b.name ? -1 : 1).flatMap((e) => {
  const p = path.join(dir, e.name);
  say('entry', p, e.isFile(), e.isDirectory(), e.isSymbolicLink());
  return e.isDirectory() ? walk(p) : [p];
});
const error = (name, f) => { try { f(); say(name, 'worked'); } catch (e) { say(name, e.code, e.syscall); } };
async function main() {
  const files = walk(root);
  for (const f of files) { const s = fs.statSync(f), l = fs.lstatSync(f), b = fs.statSync(f, {bigint: true}); say(f, s.size, s.mode, s.mtimeMs, s.nlink, l.ino === s.ino, Number(b.ino) === s.ino); }
  for (const f of files) say('sync', f, md5(fs.readFileSync(f)));
  const all = await Promise.all(files.map(async (f) => [f, md5(await fs.promises.readFile(f)), (await fs.promises.stat(f)).size]));
  for (const a of all) say('promise', ...a);
  await Promise.all(files.slice(0, 60).map((f) => new Promise((done, no) => fs.readFile(f, (e, d) => e ? no(e) : (say2.push([f, md5(d)].join(' ')), done())))));
  for (const l of say2.sort()) say('callback', l);
  for (const f of ['sizes/05242883.bin', 'sizes/00000000.bin', 'text/00.txt']) {
    const h = crypto.createHash('md5');
    for await (const c of fs.createReadStream(path.join(root, f), {highWaterMark: 10007})) h.update(c);
    say('stream', f, h.digest('hex'));
  }
  const part = []; for await (const c of fs.createReadStream(path.join(root, 'sizes/00110000.bin'), {start: 5000, end: 70000})) part.push(c);
  say('range', md5(Buffer.concat(part)));
  const rl = require('readline').createInterface({input: fs.createReadStream(path.join(root, 'text/01.txt'))});
  let n = 0; for await (const line of rl) n += parseInt(line); say('lines', n);
  const fd = fs.openSync(path.join(root, 'sizes/00110000.bin')), buf = Buffer.alloc(1000);
  say('pread', fs.readSync(fd, buf, 0, 1000, 99500), md5(buf), fs.fstatSync(fd).size, fs.fstatSync(fd).ino === fs.statSync(path.join(root, 'sizes/00110000.bin')).ino);
  say('readv', fs.readvSync(fd, [Buffer.alloc(10), buf], 0), md5(buf)); fs.closeSync(fd);
  const handle = await fs.promises.open(path.join(root, 'text/02.txt')); say('handle', (await handle.stat()).size, md5(await handle.readFile())); await handle.close();
  const dir = await fs.promises.opendir(path.join(root, 'images')); const names = []; for await (const e of dir) names.push(e.name); say('opendir', names.sort());
  say('recursive', fs.readdirSync(root, {recursive: true}).sort().length);
  say('realpath', fs.realpathSync(path.join(root, 'odd/../text/00.txt')), fs.realpathSync.native(path.join(root, 'deep/level0/..')), await fs.promises.realpath(root));
  fs.copyFileSync(path.join(root, 'sizes/01048577.bin'), path.join(scratch, 'copied')); await fs.promises.copyFile(path.join(root, 'text/00.txt'), path.join(scratch, 'copied2'));
  await fs.promises.cp(path.join(root, 'text'), path.join(scratch, 'tree'), {recursive: true});
  say('exists', fs.existsSync(path.join(root, 'text')), fs.existsSync(path.join(root, 'none')));
  error('access', () => fs.accessSync(path.join(root, 'text/00.txt'), fs.constants.W_OK)); error('missing', () => fs.readFileSync(path.join(root, 'none')));
  error('readlink', () => fs.readlinkSync(path.join(root, 'text'))); error('write', () => fs.writeFileSync(path.join(root, 'text/00.txt'), 'x')); error('new', () => fs.writeFileSync(path.join(root, 'new'), 'x'));
  error('mkdir', () => fs.mkdirSync(path.join(root, 'new'))); error('unlink', () => fs.unlinkSync(path.join(root, 'text/00.txt'))); error('dir', () => fs.readFileSync(root)); error('notdir', () => fs.readdirSync(path.join(root, 'text/00.txt')));
  fs.symlinkSync(path.join(root, 'text'), path.join(scratch, 'link')); say('symlink', fs.readdirSync(path.join(scratch, 'link')).length, md5(fs.readFileSync(path.join(scratch, 'link/03.txt'))), fs.realpathSync(path.join(scratch, 'link/03.txt')));
  process.chdir(path.join(root, 'text')); say('cwd', process.cwd(), fs.readFileSync('00.txt').length, path.resolve('x'));
  const child = spawnSync('sh', ['-c', 'pwd; ls | wc -l; cat 00.txt | wc -c'], {cwd: path.join(root, 'text')}); say('child', child.status, child.stdout.toString().split('\n'), child.stderr);
  const worker = spawnSync(process.execPath, ['-e', 'console.log(require("fs").readdirSync(".").length)'], {cwd: path.join(root, 'images/n00')}); say('node child', worker.stdout.toString().trim());
  const stdin = spawnSync('md5sum', {stdio: [fs.openSync(path.join(root, 'text/05.txt')), 'pipe', 'inherit']}); say('stdin', stdin.stdout.toString().trim());
  process.chdir('/'); const statfs = fs.statfsSync(root); say('statfs', statfs.bsize > 0);
}
const say2 = [];
main().then(() => console.log(out.join('\n')), (e) => { console.log(out.join('\n')); console.error(e); process.exit(1); });
