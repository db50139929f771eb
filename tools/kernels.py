"""Kernels that start in a second: on Linux each is forked from one process that has made the imports of all chapters.

Elsewhere they start as Jupyter starts them."""
import multiprocessing, os, signal, sys, threading, time
from importlib.metadata import EntryPoint
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

HEAVY = ['nbdev.test', 'fastai.vision.all', 'matplotlib.pyplot', 'sklearn.metrics', 'skimage.measure', 'timm', 'h5py']

def server(*more):
    "What forks: a context of multiprocessing whose server process has the imports of `HEAVY` and `more`"
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([*HEAVY, *more])
    return context

def end_with(pid):
    "From now on this process and its children end soon after process `pid`, however that was ended"
    def watch():
        while True:
            try: os.kill(pid, 0)
            except ProcessLookupError: os.killpg(0, signal.SIGKILL)
            time.sleep(1)
    threading.Thread(target=watch, daemon=True).start()

def be_kernel(argv, env, cwd, log, owner):
    "The forked process becomes a kernel of process `owner`, in this folder, that writes to the file `log`"
    os.setsid()
    end_with(owner)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:] = [*filter(None, env.get('PYTHONPATH', '').split(os.pathsep)), *sys.path]
    fd = os.open(log, os.O_WRONLY | os.O_APPEND)
    for i in (1, 2): os.dup2(fd, i)
    sys.argv = argv
    from ipykernel.kernelapp import launch_new_instance
    launch_new_instance()

class Forked:
    "A process of multiprocessing with the methods of subprocess.Popen that jupyter_client uses"
    stdin = stdout = stderr = None

    def __init__(self, cmd, env, cwd, log):
        how = cmd[2:], env, cwd, log, os.getpid()
        self.process = server('ipykernel.kernelapp').Process(target=be_kernel, args=how)
        self.process.start()
        self.pid, self.kill, self.terminate = self.process.pid, self.process.kill, self.process.terminate

    def poll(self): return self.process.exitcode
    def send_signal(self, number): os.kill(self.pid, number)

    def wait(self):
        self.process.join()
        return self.process.exitcode

class Provisioner(LocalProvisioner):
    "jupyter_client's, with such a process"
    async def launch_kernel(self, cmd, stdout, env, cwd, **kwargs):
        self.process = Forked(cmd, env, cwd, stdout.name)
        self.pid = self.pgid = self.process.pid # it leads a session of its own
        self.cwd = cwd
        return self.connection_info

def fork_kernels():
    "From now on the kernels of this process are forked"
    if sys.platform != 'linux': return
    os.environ.setdefault('MPLBACKEND', 'module://matplotlib_inline.backend_inline') # as ipykernel does
    factory = KernelProvisionerFactory.instance()
    factory.provisioners['forked'] = EntryPoint('forked', 'kernels:Provisioner', factory.GROUP_NAME)
    factory.default_provisioner_name = 'forked'
