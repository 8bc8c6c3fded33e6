"""The public names, each with its home; see ``__getattr__`` beside this file."""

from pytest_k8snet.calico.modes import CalicoMode as CalicoMode
from pytest_k8snet.cluster.services import WebService as WebService
from pytest_k8snet.errors import Inconclusive as Inconclusive
from pytest_k8snet.errors import K8sNetError as K8sNetError
from pytest_k8snet.measure.disruption import SwitchCost as SwitchCost
from pytest_k8snet.measure.endpoints import Endpoint as Endpoint
from pytest_k8snet.measure.endpoints import Pair as Pair
from pytest_k8snet.measure.run import Run as Run
from pytest_k8snet.tools.curl import CurlSamples as CurlSamples
from pytest_k8snet.tools.iperf3_result import Iperf3Result as Iperf3Result
from pytest_k8snet.tools.ping import PingResult as PingResult
from pytest_k8snet.units import BitRate as BitRate
from pytest_k8snet.units import Gbit as Gbit
from pytest_k8snet.units import Mbit as Mbit
from pytest_k8snet.units import Ratio as Ratio
from pytest_k8snet.units import Seconds as Seconds
from pytest_k8snet.units import bit as bit
from pytest_k8snet.units import kbit as kbit
from pytest_k8snet.units import ms as ms
from pytest_k8snet.units import second as second
from pytest_k8snet.units import us as us

__version__: str
